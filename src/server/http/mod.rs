//! The door for operators and their tools: HTTP with health, readiness, status and metrics.
//!
//! `/healthz` and `/livez` answer while the process serves. `/readyz` answers 200 while a linearizable read is possible through
//! this node: it makes one. `/status` is the node's view of itself and its cluster as JSON, `/metrics` is Prometheus text.
#![allow(clippy::disallowed_methods, reason = "a door has a clock: it gives up on requests and at a stop")]

mod auth;
mod bounded;
mod metrics;
mod ready;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::bounded::BoundedListener;
use crate::runtime::metrics::Registry;
use crate::runtime::{Handle, Password};

/// At a stop, how long requests under way may take.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

/// What an HTTP listener is started with.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// What readers of `/status` must know, if anything.
    pub password: Option<Password>,
    /// How long `/readyz` may take.
    pub request_timeout: Duration,
    /// What `/metrics` shows beside the node's status.
    pub registry: Arc<Registry>,
}

struct Door {
    handle: Handle,
    options: HttpOptions,
}

/// Serves HTTP on `listener` until `shutdown` is true (or its sender gone); then requests under way get two more seconds.
///
/// Must run inside a tokio runtime. Returns an error if the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    options: HttpOptions,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let door = Arc::new(Door { handle, options });
    let mut overdue = shutdown.clone();
    let serving = axum::serve(BoundedListener::new(listener), router(door)).with_graceful_shutdown(stopped(shutdown));
    tokio::select! {
        ended = serving => ended,
        () = async {
            stopped_at(&mut overdue).await;
            tokio::time::sleep(STOP_TIME_MAX).await;
        } => Ok(()),
    }
}

async fn stopped(mut shutdown: watch::Receiver<bool>) {
    stopped_at(&mut shutdown).await;
}

async fn stopped_at(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: that is a stop too.
    drop(shutdown.wait_for(|is_stopping| *is_stopping).await);
}

fn router(door: Arc<Door>) -> Router {
    let closed = Router::new()
        .route("/status", get(status))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&door), with_password));
    let open = Router::new()
        .route("/healthz", get(alive))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics));
    closed.merge(open).with_state(door)
}

async fn alive() -> &'static str {
    "ok\n"
}

/// `/readyz[?verbose]`
async fn ready(State(door): State<Arc<Door>>, Query(options): Query<HashMap<String, String>>) -> Response {
    let checks = ready::checks(&door.handle, door.options.request_timeout).await;
    let status = if checks.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let is_verbose = options.get("verbose").is_some_and(|value| value != "false" && value != "0");
    (status, if is_verbose { checks.all() } else { checks.summary() }).into_response()
}

async fn status(State(door): State<Arc<Door>>) -> Response {
    let status = door.handle.status();
    axum::Json(&*status).into_response()
}

async fn metrics(State(door): State<Arc<Door>>) -> Response {
    let text = metrics::text(&door.handle.status(), &door.options.registry);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Lets a request through that has the password, if one is set.
async fn with_password(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    if door.options.password.as_ref().is_none_or(|password| auth::is_granted(password, given)) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"kontiki\", charset=\"UTF-8\"")];
    (StatusCode::UNAUTHORIZED, challenge, "a password is needed: Authorization: Bearer PASSWORD\n").into_response()
}

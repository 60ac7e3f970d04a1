//! The first frame on a connection and its answer: who is there, of which cluster, and which protocol is spoken.

use bytes::{BufMut, Bytes, BytesMut};

use crate::raft::NodeId;

use super::super::wire::{FrameReader, FrameWriter, WireError, put_text};
use super::kind;

/// The only version of the peer protocol so far.
pub const PROTOCOL_VERSION: u16 = 1;

/// Tells a hello from a frame of something else that happened to use our port.
const MAGIC: u32 = u32::from_le_bytes(*b"KNTK");

/// Longest address in bytes: a host name of 255 and a port.
const ADDRESS_BYTES_MAX: usize = 262;

/// Who a member says it is. The certificate of its connection must agree.
///
/// Fields on the wire, in order: magic u32, `version_min` u16, `version_max` u16, `cluster_id` u128, `history` u128, `node` u64,
/// `storage_uuid` u128, `boot` u64, `client_addr` (length u32, UTF-8). A newer hello may add fields behind them only under a
/// new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version of the protocol that the sender speaks.
    pub version_min: u16,
    /// The newest version that the sender speaks.
    pub version_max: u16,
    /// The cluster.
    pub cluster_id: u128,
    /// The history of that cluster; 0 while the sender's log is empty.
    pub history: u128,
    /// The sender, never 0.
    pub node: NodeId,
    /// The storage of the sender.
    pub storage_uuid: u128,
    /// Drawn at each start of the sender's process.
    pub boot: u64,
    /// Where clients reach the sender.
    pub client_addr: String,
}

/// The acceptor's answer to a hello: the connection is open from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloAck {
    /// The version that both speak on this connection.
    pub version: u16,
    /// Who answers.
    pub hello: Hello,
}

impl Hello {
    /// Returns the newest version that both sides speak, if there is one.
    pub fn common_version(&self, other: &Hello) -> Option<u16> {
        let newest = self.version_max.min(other.version_max);
        (newest >= self.version_min.max(other.version_min)).then_some(newest)
    }

    /// Encodes the frame.
    pub fn encode(&self) -> Vec<Bytes> {
        let mut frame = FrameWriter::new(kind::HELLO, 128);
        self.put(frame.fields());
        frame.finish()
    }

    /// Decodes a frame; anything but a hello is an error.
    pub fn decode(frame: Bytes) -> Result<Hello, WireError> {
        let mut fields = FrameReader::new(frame);
        match fields.u8("type")? {
            kind::HELLO => {}
            found => return Err(WireError::Type { found }),
        }
        let hello = Hello::read(&mut fields)?;
        fields.finish()?;
        Ok(hello)
    }

    fn put(&self, fields: &mut BytesMut) {
        fields.put_u32_le(MAGIC);
        fields.put_u16_le(self.version_min);
        fields.put_u16_le(self.version_max);
        fields.put_u128_le(self.cluster_id);
        fields.put_u128_le(self.history);
        fields.put_u64_le(self.node.0);
        fields.put_u128_le(self.storage_uuid);
        fields.put_u64_le(self.boot);
        put_text(fields, &self.client_addr);
    }

    fn read(fields: &mut FrameReader) -> Result<Hello, WireError> {
        if fields.u32("magic")? != MAGIC {
            return Err(WireError::Value { field: "magic" });
        }
        let hello = Hello {
            version_min: fields.u16("version_min")?,
            version_max: fields.u16("version_max")?,
            cluster_id: fields.u128("cluster_id")?,
            history: fields.u128("history")?,
            node: NodeId(fields.u64("node")?),
            storage_uuid: fields.u128("storage_uuid")?,
            boot: fields.u64("boot")?,
            client_addr: fields.text(ADDRESS_BYTES_MAX, "client_addr")?,
        };
        if hello.node.0 == 0 {
            return Err(WireError::Value { field: "node" });
        }
        Ok(hello)
    }
}

impl HelloAck {
    /// Encodes the frame.
    pub fn encode(&self) -> Vec<Bytes> {
        let mut frame = FrameWriter::new(kind::HELLO_ACK, 128);
        frame.fields().put_u16_le(self.version);
        self.hello.put(frame.fields());
        frame.finish()
    }

    /// Decodes a frame; anything but a hello ack is an error.
    pub fn decode(frame: Bytes) -> Result<HelloAck, WireError> {
        let mut fields = FrameReader::new(frame);
        match fields.u8("type")? {
            kind::HELLO_ACK => {}
            found => return Err(WireError::Type { found }),
        }
        let ack = HelloAck { version: fields.u16("version")?, hello: Hello::read(&mut fields)? };
        fields.finish()?;
        Ok(ack)
    }
}

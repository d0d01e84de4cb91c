//! The code made from `proto/`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

/// The records between nodes.
pub mod records {
    tonic::include_proto!("tripline.records.v1");
}

/// The API `tripline.v1`.
pub mod v1 {
    tonic::include_proto!("tripline.v1");
}

/// The API of the system that Tripline replaces.
pub mod usermanagement {
    tonic::include_proto!("usermanagement");
}

/// The encoded descriptors of all of them, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

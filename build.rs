//! Compiles the protobuf files, without a protoc on the machine.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/tripline/v1/records.proto",
        "proto/tripline/v1/api.proto",
        "proto/usermanagement/usermanagement.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    // The migrations are compiled in, and a new file among them is no change of a source.
    println!("cargo:rerun-if-changed=migrations");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

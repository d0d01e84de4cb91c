//! The bytes of records in an embedded log.
//!
//! A batch is its records, each as the length of what follows, then time, key, value and
//! headers. Integers are little-endian; texts and bytes come after their length.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::model::Timestamp;
use crate::pipeline::broker::Record;

/// What is not a record that [`encode`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The length that says that there is no key.
const NO_KEY: u32 = u32::MAX;

/// The body of a batch.
pub(crate) fn encode(records: &[Record]) -> Bytes {
    let mut body =
        BytesMut::with_capacity(records.iter().map(|record| encoded_len(record) + 4).sum());
    for record in records {
        body.put_u32_le(length(encoded_len(record)));
        body.put_i64_le(record.time.millis());
        match &record.key {
            Some(key) => put(&mut body, key),
            None => body.put_u32_le(NO_KEY),
        }
        put(&mut body, &record.value);
        body.put_u32_le(length(record.headers.len()));
        for (name, value) in &record.headers {
            put(&mut body, name.as_bytes());
            put(&mut body, value);
        }
    }
    body.freeze()
}

/// Passes over the next record of a body.
pub(super) fn skip(body: &mut Bytes) -> Result<(), Malformed> {
    take(body).map(drop)
}

/// Takes the next record off a body. Its parts share the body's memory.
pub(crate) fn decode(body: &mut Bytes) -> Result<Record, Malformed> {
    let mut rest = take(body)?;
    let time = rest.try_get_i64_le().map_err(|_| Malformed)?;
    let time = Timestamp::from_millis(time).ok_or(Malformed)?;
    let key = match rest.try_get_u32_le().map_err(|_| Malformed)? {
        NO_KEY => None,
        length => Some(split(&mut rest, length)?),
    };
    let value = take(&mut rest)?;
    let count = rest.try_get_u32_le().map_err(|_| Malformed)?;
    // No capacity from a number that damage may have made huge.
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = take(&mut rest)?;
        let name = std::str::from_utf8(&name).map_err(|_| Malformed)?.to_owned();
        headers.push((name, take(&mut rest)?));
    }
    if rest.is_empty() { Ok(Record { key, value, headers, time }) } else { Err(Malformed) }
}

fn encoded_len(record: &Record) -> usize {
    let headers: usize =
        record.headers.iter().map(|(name, value)| 8 + name.len() + value.len()).sum();
    20 + record.key.as_ref().map_or(0, Bytes::len) + record.value.len() + headers
}

fn put(body: &mut BytesMut, part: &[u8]) {
    body.put_u32_le(length(part.len()));
    body.put_slice(part);
}

/// Batches are bounded to far less than 4 GiB before they get here.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn take(bytes: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = bytes.try_get_u32_le().map_err(|_| Malformed)?;
    split(bytes, length)
}

fn split(bytes: &mut Bytes, length: u32) -> Result<Bytes, Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    if length > bytes.len() { Err(Malformed) } else { Ok(bytes.split_to(length)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    prop_compose! {
        fn record()(
            key in prop::option::of(bytes()),
            value in bytes(),
            headers in prop::collection::vec((".{0,5}", bytes()), 0..3),
            millis in Timestamp::MIN.millis()..=Timestamp::MAX.millis(),
        ) -> Record {
            Record { key, value, headers, time: Timestamp::from_millis(millis).unwrap() }
        }
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_were(records in prop::collection::vec(record(), 0..4)) {
            let mut body = encode(&records);
            for record in &records {
                let mut other = body.clone();
                prop_assert_eq!(&decode(&mut body).unwrap(), record);
                skip(&mut other).unwrap();
                prop_assert_eq!(&other, &body);
            }
            prop_assert!(body.is_empty());
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read_but_never_panic(bytes in bytes()) {
            let mut body = bytes;
            while decode(&mut body).is_ok() {}
        }
    }

    #[test]
    fn a_cut_record_is_refused() {
        let record = Record {
            key: Some(Bytes::from_static(b"AAPL")),
            value: Bytes::from_static(b"190.5"),
            headers: vec![("schema".to_owned(), Bytes::from_static(b"tick"))],
            time: Timestamp::default(),
        };
        let body = encode(&[record]);
        for length in 0..body.len() {
            assert_eq!(decode(&mut body.slice(..length)), Err(Malformed), "{length} bytes");
        }
    }
}

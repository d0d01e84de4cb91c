//! The bytes of records in an embedded log.
//!
//! A batch is its records, each as the length of what follows, then time, key, value and
//! headers. Integers are little-endian; texts and bytes come after their length.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::model::Timestamp;
use crate::pipeline::broker::{Headers, Record};
use crate::pipeline::record::known_schema;

/// What is not a record that [`encode`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The bytes of a length.
const LENGTH: usize = size_of::<u32>();

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
    let record = take(&mut &body[..])?.len();
    body.advance(LENGTH + record);
    Ok(())
}

/// Takes the next record off a body. Its parts share the body's memory.
pub(crate) fn decode(body: &mut Bytes) -> Result<Record, Malformed> {
    let mut rest = take(&mut &body[..])?;
    let size = LENGTH + rest.len();
    let time = rest.try_get_i64_le().map_err(|_| Malformed)?;
    let time = Timestamp::from_millis(time).ok_or(Malformed)?;
    let key = match rest.try_get_u32_le().map_err(|_| Malformed)? {
        NO_KEY => None,
        length => Some(body.slice_ref(split(&mut rest, length)?)),
    };
    let value = body.slice_ref(take(&mut rest)?);
    let count = rest.try_get_u32_le().map_err(|_| Malformed)?;
    // No capacity from a number that damage may have made huge.
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = std::str::from_utf8(take(&mut rest)?).map_err(|_| Malformed)?;
        let value = take(&mut rest)?;
        let value = known_schema(value).unwrap_or_else(|| body.slice_ref(value));
        headers.push((name.into(), value));
    }
    if !rest.is_empty() {
        return Err(Malformed);
    }
    body.advance(size);
    Ok(Record { key, value, headers, time })
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

/// Takes what comes after its length.
fn take<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = bytes.try_get_u32_le().map_err(|_| Malformed)?;
    split(bytes, length)
}

fn split<'a>(bytes: &mut &'a [u8], length: u32) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    bytes.split_off(..length).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smallvec::smallvec;

    use super::*;
    use crate::pipeline::broker::HeaderName;

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn name() -> impl Strategy<Value = HeaderName> {
        prop_oneof!["schema|traceparent", ".{0,5}"].prop_map(|name| name.as_str().into())
    }

    prop_compose! {
        fn record()(
            key in prop::option::of(bytes()),
            value in bytes(),
            headers in prop::collection::vec((name(), bytes()), 0..3),
            millis in Timestamp::MIN.millis()..=Timestamp::MAX.millis(),
        ) -> Record {
            let time = Timestamp::from_millis(millis).unwrap();
            Record { key, value, headers: headers.into(), time }
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
            headers: smallvec![(HeaderName::SCHEMA, Bytes::from_static(b"tick"))],
            time: Timestamp::default(),
        };
        let body = encode(&[record]);
        for length in 0..body.len() {
            assert_eq!(decode(&mut body.slice(..length)), Err(Malformed), "{length} bytes");
        }
    }
}

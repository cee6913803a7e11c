//! A message's headers as the text of a JSON object: names to texts. Of headers with one name the last counts. Bytes that
//! are not UTF-8 are replaced by U+FFFD; a header without a value is `null`.
//!
//! This goes to librdkafka directly: the `rdkafka` crate panics on a name that is not UTF-8, and names are input.

use std::ffi::CStr;
use std::ptr;

use rdkafka::bindings::rd_kafka_header_get_all;
use rdkafka::bindings::rd_kafka_message_headers;
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use serde_json::Map;
use serde_json::Value;

/// The headers; `None` for a message without any.
pub(super) fn text(message: &BorrowedMessage<'_>) -> Option<String> {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is alive for as long as it is borrowed, and so are its headers, which it owns.
    let found = unsafe { rd_kafka_message_headers(message.ptr(), &mut headers) };
    if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
        return None;
    }
    let mut object = Map::new();
    for index in 0.. {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` is valid as above; an index past the end is answered by an error.
        let found = unsafe { rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut length) };
        if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            break;
        }
        // SAFETY: without an error `name` is a string with a final zero, and `value` is NULL or `length` bytes.
        let (name, value) = unsafe {
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), length));
            (CStr::from_ptr(name).to_string_lossy(), value)
        };
        let value = value.map(|bytes| Value::from(String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")));
        object.insert(name.into_owned(), value.unwrap_or(Value::Null));
    }
    Some(Value::Object(object).to_string())
}

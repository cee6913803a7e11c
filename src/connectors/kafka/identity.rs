//! The id of a topic: one that is deleted and created anew has the same name and another id, and offsets of the one mean nothing in
//! the other. rdkafka does not wrap the question, so we ask librdkafka.

use std::ffi::CStr;
use std::ffi::CString;
use std::ptr;
use std::time::Duration;

use rdkafka::bindings::*;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;

use super::client::Cluster;
use crate::error::Error;
use crate::error::Result;

impl Cluster {
    /// The topic's id as text; `None` where brokers are too old to tell.
    pub(super) fn topic_id(&self, timeout: Duration) -> Result<Option<String>> {
        let name = CString::new(self.topic.as_str()).map_err(|_| self.missing())?;
        let told = describe(self.consumer.client().native_ptr(), &name, timeout);
        told.map_err(|code| match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => self.missing(),
            code => self.unreachable(&KafkaError::MetadataFetch(code)),
        })
    }

    /// The error for a topic with another id than the source began with.
    pub(super) fn replaced(&self) -> Error {
        Error::not_ready(format!("topic \"{}\" was deleted and created anew", self.topic))
            .detail("What the source has read was in the old topic; its offsets mean nothing in the new one.")
            .hint("Drop the source and create it again.")
    }
}

/// Asks for the description of one topic, and waits for the answer.
fn describe(client: *mut rd_kafka_t, topic: &CStr, timeout: Duration) -> Result<Option<String>, RDKafkaRespErr> {
    let millis = timeout.as_millis().min(i32::MAX as u128) as i32;
    let mut names = [topic.as_ptr()];
    // SAFETY: the client lives as long as its cluster; whatever is made here is destroyed below, after its last use.
    unsafe {
        let queue = rd_kafka_queue_new(client);
        let topics = rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = rd_kafka_AdminOptions_new(client, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = rd_kafka_queue_poll(queue, millis);
        let told = told(event);
        if !event.is_null() {
            rd_kafka_event_destroy(event);
        }
        rd_kafka_AdminOptions_destroy(options);
        rd_kafka_TopicCollection_destroy(topics);
        rd_kafka_queue_destroy(queue);
        told
    }
}

/// The topic's id from the answer.
///
/// # Safety
/// The event is null, or one that was not destroyed yet.
unsafe fn told(event: *mut rd_kafka_event_t) -> Result<Option<String>, RDKafkaRespErr> {
    if event.is_null() {
        return Err(RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT);
    }
    // SAFETY: what librdkafka hands out here belongs to the event, which the caller keeps.
    unsafe {
        match rd_kafka_event_error(event) {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE => return Ok(None),
            error => return Err(error),
        }
        let mut count = 0;
        let topics = rd_kafka_DescribeTopics_result_topics(rd_kafka_event_DescribeTopics_result(event), &mut count);
        if topics.is_null() || count == 0 {
            return Err(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
        }
        let topic = *topics;
        match rd_kafka_error_code(rd_kafka_TopicDescription_error(topic)) {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            error => return Err(error),
        }
        let id = rd_kafka_TopicDescription_topic_id(topic);
        let is_zero = rd_kafka_Uuid_most_significant_bits(id) == 0 && rd_kafka_Uuid_least_significant_bits(id) == 0;
        let text = CStr::from_ptr(rd_kafka_Uuid_base64str(id)).to_string_lossy().into_owned();
        Ok((!is_zero).then_some(text))
    }
}

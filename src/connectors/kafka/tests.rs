//! What can be said about the connector without any broker. (`tests/kafka/connector.rs` runs it against a real one.)

use super::*;
use crate::error::Kind;
use crate::ids::ObjectId;

fn spec(options: &[(&str, &str)]) -> SourceSpec {
    let mut all = BTreeMap::from([
        ("topic".to_string(), "t".to_string()),
        ("properties.bootstrap.server".to_string(), "127.0.0.1:1".to_string()),
    ]);
    all.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let columns = vec![(Column::new("a", SqlType::BigInt), Part::Field("a".into()))];
    SourceSpec {
        source: ObjectId(1),
        name: "s".into(),
        columns,
        options: all,
        until: None,
        identity: None,
        fields: Vec::new(),
        format: None,
        environment: Arc::default(),
    }
}

#[track_caller]
fn refused(options: &[(&str, &str)], kind: Kind, message: &str) {
    let error = Kafka.validate(&spec(options)).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (kind, message));
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    Kafka.validate(&spec(&[])).unwrap();
    Kafka
        .validate(&spec(&[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp.millis", "1700000000000")]))
        .unwrap();
    refused(
        &[("scan.startup.mode", "timestamp")],
        Kind::InvalidParameter,
        "scan.startup.mode = 'timestamp' needs the option \"scan.startup.timestamp.millis\"",
    );
    refused(
        &[("scan.startup.timestamp.millis", "1")],
        Kind::InvalidParameter,
        "option \"scan.startup.timestamp.millis\" needs scan.startup.mode = 'timestamp'",
    );
    refused(
        &[("properties.sasl.username", "u")],
        Kind::InvalidParameter,
        "security protocol PLAINTEXT does not log in",
    );
}

#[test]
fn what_could_run_code_or_read_files_never_reaches_the_library() {
    for name in
        ["plugin.library.paths", "properties.sasl.kerberos.kinit.cmd", "properties.debug", "properties.group.id"]
    {
        let error = Kafka.validate(&spec(&[(name, "x")])).unwrap_err();
        assert_eq!(error.kind, Kind::UndefinedObject, "{name}");
    }
    for path in ["/etc/passwd", "/etc/ssl/../passwd", "/proc/self/environ", "/etc/ssl", "relative"] {
        let error = Kafka.validate(&spec(&[("properties.ssl.ca.location", path)])).unwrap_err();
        assert_eq!(error.kind, Kind::InvalidParameter, "{path}");
    }
}

#[test]
fn included_parts_have_their_types() {
    let mut spec = spec(&[]);
    spec.columns.push((Column::new("p", SqlType::Text), Part::Partition));
    assert_eq!(
        Kafka.validate(&spec).unwrap_err().message,
        "INCLUDE PARTITION makes a column of type integer, not text"
    );
    spec.columns[1] = (Column::new("k", SqlType::Text), Part::Key);
    Kafka.validate(&spec).unwrap();
    spec.columns[0].0.ty = SqlType::Array(Box::new(SqlType::Text));
    assert_eq!(Kafka.validate(&spec).unwrap_err().kind, Kind::Unsupported);
}

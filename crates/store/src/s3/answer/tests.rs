//! Recorded answers of servers, and what is made of them.

use super::*;

fn answer(status: u16, content_type: &str, body: &str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type.parse().unwrap());
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: bytes::Bytes::from(body.to_owned()),
    }
}

fn xml(status: u16, body: &str) -> Fault {
    let body = format!(r#"<?xml version="1.0" encoding="UTF-8"?>{}<Error>{body}</Error>"#, "\n");
    answer(status, "application/xml", &body).checked("notes").unwrap_err()
}

fn code(status: u16, code: &str, message: &str) -> Fault {
    xml(status, &format!("<Code>{code}</Code><Message>{message}</Message><RequestId>x</RequestId>"))
}

#[test]
fn each_word_of_a_server_has_its_kind() {
    for (status, word, kind) in [
        (404, "NoSuchBucket", ErrorKind::NoBucket),
        (403, "InvalidAccessKeyId", ErrorKind::Denied),
        (403, "SignatureDoesNotMatch", ErrorKind::Denied),
        (403, "AccessDenied", ErrorKind::Denied),
        (400, "ExpiredToken", ErrorKind::Denied),
        (403, "RequestTimeTooSkewed", ErrorKind::Clock),
        (503, "SlowDown", ErrorKind::Throttled),
        (503, "ServiceUnavailable", ErrorKind::Throttled),
        (500, "InternalError", ErrorKind::Server),
        (403, "QuotaExceeded", ErrorKind::Full),
        (507, "XMinioStorageFull", ErrorKind::Full),
        (400, "EntityTooLarge", ErrorKind::TooLarge),
        (400, "RequestTimeout", ErrorKind::Timeout),
        (501, "NotImplemented", ErrorKind::Unsupported),
        (400, "InvalidArgument", ErrorKind::Answer),
        (400, "KeyTooLongError", ErrorKind::Name),
        (502, "SomethingNew", ErrorKind::Server),
    ] {
        let fault = code(status, word, "why");
        assert_eq!((fault.kind, fault.status), (kind, Some(status)), "{word}");
        assert!(!fault.reason.contains('<') && !fault.reason.contains('\n'), "{}", fault.reason);
    }
    assert_eq!(code(404, "NoSuchBucket", "x").reason, "there is no bucket `notes`");
    assert_eq!(code(403, "AccessDenied", "Not &amp; here").reason, "403 AccessDenied: Not & here");
}

#[test]
fn a_status_without_a_document_has_a_kind_too() {
    for (status, kind) in [
        (403, ErrorKind::Denied),
        (429, ErrorKind::Throttled),
        (500, ErrorKind::Server),
        (503, ErrorKind::Throttled),
        (504, ErrorKind::Server),
        (507, ErrorKind::Full),
    ] {
        let fault = answer(status, "text/plain", "").checked("notes").unwrap_err();
        assert_eq!(fault.kind, kind, "{status}");
    }
}

#[test]
fn the_right_region_is_named_where_the_server_says_it() {
    let malformed = xml(
        400,
        "<Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region \
         'us-east-1' is wrong; expecting 'eu-west-1'</Message><Region>eu-west-1</Region>",
    );
    assert_eq!(
        (malformed.kind, malformed.reason.as_str()),
        (ErrorKind::Region, "the bucket is in the region eu-west-1")
    );
    let redirect = xml(
        301,
        "<Code>PermanentRedirect</Code><Message>use it</Message><Endpoint>notes.s3.eu-west-1.amazonaws.com</Endpoint>",
    );
    assert_eq!(redirect.reason, "the bucket is behind the endpoint notes.s3.eu-west-1.amazonaws.com");
    let mut head = answer(301, "application/xml", "");
    head.headers.insert("x-amz-bucket-region", "eu-north-1".parse().unwrap());
    let head = head.checked("notes").unwrap_err();
    assert_eq!(
        (head.kind, head.reason.as_str()),
        (ErrorKind::Region, "the bucket is in the region eu-north-1")
    );
}

#[test]
fn clocks_that_differ_are_shown_side_by_side() {
    let fault = xml(
        403,
        "<Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message>\
         <RequestTime>20261122T060000Z</RequestTime><ServerTime>2026-11-22T07:00:00Z</ServerTime>",
    );
    assert_eq!(fault.reason, "the clocks differ: 20261122T060000Z here, 2026-11-22T07:00:00Z at the server");
}

#[test]
fn what_is_signed_is_never_repeated() {
    let fault = xml(
        403,
        "<Code>SignatureDoesNotMatch</Code><Message>It does not match.</Message>\
         <AWSAccessKeyId>AKIASECRET</AWSAccessKeyId><StringToSign>AWS4 s3cr3t</StringToSign>",
    );
    assert_eq!(fault.reason, "403 SignatureDoesNotMatch: It does not match.");
}

#[test]
fn a_web_page_is_no_store() {
    let page = answer(404, "text/html", "<!DOCTYPE html><html><body>Not here</body></html>");
    let fault = page.checked("notes").unwrap_err();
    assert_eq!(
        (fault.kind, fault.reason.as_str(), fault.is_absence()),
        (ErrorKind::Answer, "it answered 404 Not Found with a web page", false)
    );
    let gateway = answer(502, "text/html", "<html>Bad gateway</html>").checked("notes").unwrap_err();
    assert_eq!((gateway.kind, gateway.perhaps_done), (ErrorKind::Server, true));
    let plain = answer(400, "text/plain", "Client sent an HTTP request to an HTTPS server.\n");
    assert_eq!(plain.checked("notes").unwrap_err().kind, ErrorKind::Tls);
}

#[test]
fn a_yes_may_carry_an_error() {
    let fault = code(200, "InternalError", "We encountered an internal error");
    assert_eq!((fault.kind, fault.perhaps_done), (ErrorKind::Server, true));
    assert!(
        answer(200, "application/xml", "<?xml?><CompleteMultipartUploadResult/>").checked("notes").is_ok()
    );
    // The content of an object may look like anything.
    assert!(answer(206, "application/octet-stream", "<html>").checked("notes").is_ok());
}

#[test]
fn only_what_the_server_may_have_done_is_in_doubt() {
    for (status, word, doubt) in [
        (500, "InternalError", true),
        (503, "SlowDown", true),
        (501, "NotImplemented", false),
        (507, "InsufficientStorage", false),
        (403, "AccessDenied", false),
        (412, "PreconditionFailed", false),
        (409, "ConditionalRequestConflict", false),
    ] {
        assert_eq!(code(status, word, "x").perhaps_done, doubt, "{word}");
    }
    assert!(code(412, "PreconditionFailed", "x").is_refusal());
    assert!(code(409, "ConditionalRequestConflict", "x").is_conflict());
    assert!(code(404, "NoSuchKey", "x").is_absence());
    assert!(!code(404, "NoSuchBucket", "x").is_absence());
}

#[test]
fn a_reason_is_one_short_line() {
    let line = one_line(&format!("a\nb\u{1b}[31m{}", "x".repeat(1000)));
    assert!(line.starts_with("a b [31m") && line.chars().count() == MESSAGE_CHARS_MAX + 1, "{line}");
}

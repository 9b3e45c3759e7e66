//! What a server answered, and what that means: a pure function from status, headers and body to a kind and a reason.
//!
//! A reason is one short line in plain words. What a server's document says beyond its message (keys, signed strings)
//! is never repeated.

use super::documents::first_kept;
use crate::ErrorKind;
use http::{HeaderMap, StatusCode};

/// Characters of a server's own message that are repeated.
const MESSAGE_CHARS_MAX: usize = 200;

/// Bytes of a document in which the elements of an error are looked for.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// An answer, whole.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

/// Why a request did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub kind: ErrorKind,
    pub reason: String,
    /// The answer's status; none came where it is absent.
    pub status: Option<u16>,
    /// The server's word for it.
    pub code: String,
    /// Whether the server may have done it nevertheless.
    pub perhaps_done: bool,
}

impl Fault {
    /// No answer came.
    pub fn unanswered(kind: ErrorKind, reason: impl Into<String>, perhaps_done: bool) -> Fault {
        Fault { kind, reason: reason.into(), status: None, code: String::new(), perhaps_done }
    }

    /// An answer that makes no sense.
    pub fn garbled(reason: impl Into<String>) -> Fault {
        Fault::unanswered(ErrorKind::Answer, reason, true)
    }

    /// A condition did not hold: the object is there, or is another version.
    pub fn is_refusal(&self) -> bool {
        matches!(self.status, Some(412 | 304))
    }

    /// Another write to the same object was under way: this one did not happen.
    pub fn is_conflict(&self) -> bool {
        self.status == Some(409)
    }

    /// The object is not there, and a server that knows the bucket says so.
    pub fn is_absence(&self) -> bool {
        self.status == Some(404) && matches!(self.code.as_str(), "NoSuchKey" | "NotFound")
    }
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The version of the object that it is about.
    pub fn tag(&self) -> Option<crate::Tag> {
        self.header("etag").filter(|tag| !tag.is_empty()).map(|tag| crate::Tag(tag.to_owned()))
    }

    /// The answer if it says yes. A 200 may carry an error: it is sent before a long operation is over.
    pub fn checked(self, bucket: &str) -> Result<Answer, Fault> {
        if self.status.is_success() && !self.is_error_document() {
            return Ok(self);
        }
        Err(self.fault(bucket))
    }

    /// What the answer to a removal of many says that was kept, if anything was.
    pub fn kept(&self, bucket: &str) -> Option<Fault> {
        let document = String::from_utf8_lossy(&self.body);
        let entry = first_kept(&document)?;
        let code = element(entry, "Code").unwrap_or_default();
        let (kind, reason) = self.meaning(bucket, &code, entry);
        let key = element(entry, "Key").unwrap_or_default();
        let reason = format!("{} was not removed: {reason}", one_line(&key));
        Some(Fault { kind, reason, status: Some(self.status.as_u16()), code, perhaps_done: true })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(ERROR_BYTES_MAX)]).into_owned()
    }

    fn is_error_document(&self) -> bool {
        let start = &self.body[..self.body.len().min(256)];
        let text = String::from_utf8_lossy(start);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let text = match text.strip_prefix("<?xml") {
            Some(rest) => rest.split_once("?>").map_or("", |(_, rest)| rest).trim_start(),
            None => text,
        };
        text.starts_with("<Error>") || text.starts_with("<Error ")
    }

    fn fault(&self, bucket: &str) -> Fault {
        let status = self.status.as_u16();
        let text = self.text();
        let code = element(&text, "Code").unwrap_or_default();
        let (kind, reason) = self.meaning(bucket, &code, &text);
        Fault {
            kind,
            reason,
            status: Some(status),
            // These two are refusals: the server says that it cannot, and has done nothing.
            perhaps_done: (status >= 500 && !matches!(status, 501 | 507)) || status < 300,
            code,
        }
    }

    fn meaning(&self, bucket: &str, code: &str, text: &str) -> (ErrorKind, String) {
        let status = self.status.as_u16();
        let message = element(text, "Message").unwrap_or_default();
        let said = match (code, message.is_empty()) {
            ("", _) => self.status.to_string(),
            (code, _) if self.status.is_success() => format!("{code}: {}", one_line(&message)),
            (code, true) => format!("{status} {code}"),
            (code, false) => format!("{status} {code}: {}", one_line(&message)),
        };
        let region =
            element(text, "Region").or_else(|| self.header("x-amz-bucket-region").map(str::to_owned));
        if is_region(code, status, &message) {
            let reason = match (region, element(text, "Endpoint")) {
                (Some(region), _) => format!("the bucket is in the region {}", one_line(&region)),
                (None, Some(endpoint)) => {
                    format!("the bucket is behind the endpoint {}", one_line(&endpoint))
                }
                (None, None) => format!("the region is wrong ({said})"),
            };
            return (ErrorKind::Region, reason);
        }
        if let Some(kind) = by_code(code) {
            let reason = match kind {
                ErrorKind::NoBucket if code == "NoSuchBucket" => format!("there is no bucket `{bucket}`"),
                ErrorKind::Clock => match (element(text, "RequestTime"), element(text, "ServerTime")) {
                    (Some(ours), Some(theirs)) => {
                        format!(
                            "the clocks differ: {} here, {} at the server",
                            one_line(&ours),
                            one_line(&theirs)
                        )
                    }
                    _ => format!("the clocks differ ({said})"),
                },
                _ => said,
            };
            return (kind, reason);
        }
        if code.is_empty() && !self.body.is_empty() {
            return self.foreign(text);
        }
        (by_status(status), said)
    }

    /// The answer of something that speaks no S3, or of a gateway before the server.
    fn foreign(&self, text: &str) -> (ErrorKind, String) {
        let status = self.status;
        if status == StatusCode::BAD_REQUEST && text.contains("HTTPS") {
            return (ErrorKind::Tls, "the server speaks HTTPS, and was asked without".to_owned());
        }
        let kind = match status.as_u16() {
            404 | 405 | 400 => ErrorKind::Answer,
            status => by_status(status),
        };
        let html = self.header("content-type").is_some_and(|kind| kind.contains("html"))
            || text.trim_start().starts_with("<!")
            || text.trim_start().starts_with("<html");
        let what = if html { "a web page" } else { "something that is no S3 document" };
        (kind, format!("it answered {status} with {what}"))
    }
}

fn is_region(code: &str, status: u16, message: &str) -> bool {
    let by_code = matches!(
        code,
        "PermanentRedirect"
            | "TemporaryRedirect"
            | "IllegalLocationConstraintException"
            | "IncorrectEndpoint"
    );
    let malformed = code == "AuthorizationHeaderMalformed" && message.contains("region");
    by_code || malformed || matches!(status, 301 | 302 | 307 | 308)
}

fn by_code(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "NoSuchBucket" | "InvalidBucketName" => ErrorKind::NoBucket,
        "RequestTimeTooSkewed" | "RequestExpired" => ErrorKind::Clock,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "ExpiredToken"
        | "TokenRefreshRequired"
        | "AccessDenied"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "InvalidSecurity"
        | "MissingSecurityHeader"
        | "NotSignedUp"
        | "AuthorizationHeaderMalformed"
        | "UnauthorizedAccess"
        // versitygw's word for an access key that it does not know.
        | "XAdminUserNotFound" => ErrorKind::Denied,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "BandwidthLimitExceeded" => ErrorKind::Throttled,
        "QuotaExceeded"
        | "XMinioStorageFull"
        | "XMinioAdminBucketQuotaExceeded"
        | "InsufficientStorage"
        | "StorageFull"
        | "InsufficientCapacity" => ErrorKind::Full,
        "EntityTooLarge" => ErrorKind::TooLarge,
        "KeyTooLongError" | "KeyTooLong" | "XMinioInvalidObjectName" => ErrorKind::Name,
        "RequestTimeout" => ErrorKind::Timeout,
        "NotImplemented" | "MethodNotAllowed" => ErrorKind::Unsupported,
        "InternalError" | "NoSuchUpload" | "ConditionalRequestConflict" | "OperationAborted" => ErrorKind::Server,
        _ => return None,
    })
}

fn by_status(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Denied,
        408 => ErrorKind::Timeout,
        413 => ErrorKind::TooLarge,
        429 | 503 => ErrorKind::Throttled,
        405 | 501 => ErrorKind::Unsupported,
        507 => ErrorKind::Full,
        409 | 500.. => ErrorKind::Server,
        _ => ErrorKind::Answer,
    }
}

/// The text of the first element of a name, unescaped.
pub(super) fn element(document: &str, name: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = quick_xml::escape::unescape(text).ok()?;
    (!text.trim().is_empty()).then(|| text.into_owned())
}

/// A text on one line, short, without anything that a terminal would act on.
pub(super) fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = plain.take(MESSAGE_CHARS_MAX).collect();
    if text.chars().nth(MESSAGE_CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;

//! Where a bucket is reached: endpoint, region, path style or virtual host. Pure.

use super::credentials::{Environment, Profile, variable};
use crate::S3Options;

/// The region where nobody names one; what servers that know no regions expect.
const REGION: &str = "us-east-1";

/// Where a bucket is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The URL below which the keys lie, without a slash at its end.
    pub bucket_url: String,
    pub region: String,
    /// `host` or `host:port`.
    pub authority: String,
}

impl Place {
    /// Errors are texts without secrets.
    pub fn find(
        bucket: &str,
        options: &S3Options,
        profile: &Profile,
        environment: Environment<'_>,
    ) -> Result<Place, String> {
        let of = |name: &str| variable(environment, name);
        let region = options.region.clone().or_else(|| of("AWS_REGION")).or_else(|| of("AWS_DEFAULT_REGION"));
        let region =
            region.or_else(|| profile.get("region").map(str::to_owned)).unwrap_or_else(|| REGION.to_owned());
        let endpoint =
            options.endpoint.clone().or_else(|| of("AWS_ENDPOINT_URL_S3")).or_else(|| of("AWS_ENDPOINT_URL"));
        let endpoint = endpoint.or_else(|| profile.get("endpoint_url").map(str::to_owned));
        // A name with dots is no single label, and the certificates of a virtual host cover one.
        let path_style = options.path_style.unwrap_or(endpoint.is_some() || bucket.contains('.'));
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let Endpoint { scheme, authority, path } = Endpoint::parse(&endpoint)?;
        let (authority, path) = if path_style {
            (authority, format!("{path}/{bucket}"))
        } else {
            (format!("{bucket}.{authority}"), path)
        };
        Ok(Place { bucket_url: format!("{scheme}://{authority}{path}"), region, authority })
    }
}

struct Endpoint {
    scheme: &'static str,
    authority: String,
    path: String,
}

impl Endpoint {
    fn parse(text: &str) -> Result<Endpoint, String> {
        const SHAPE: &str = "write https://host or http://host:port";
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => ("http", rest),
            Some(("https", rest)) => ("https", rest),
            _ => return Err(format!("the endpoint has no scheme: {SHAPE}")),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // Not repeated: it may be a secret.
        if rest.contains('@') {
            return Err(format!("the endpoint holds credentials: {SHAPE}, and give the keys apart"));
        }
        let plain =
            !authority.is_empty() && !text.contains(['?', '#', ' ']) && !text.chars().any(char::is_control);
        let parsed = authority.parse::<http::uri::Authority>().ok().filter(|_| plain);
        let authority = parsed.filter(|authority| !authority.host().is_empty());
        let Some(authority) = authority else {
            return Err(format!("the endpoint `{text}` is no URL: {SHAPE}"));
        };
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Endpoint { scheme, authority: authority.as_str().to_ascii_lowercase(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(bucket: &str, options: &S3Options, variables: &[(&str, &str)]) -> Result<Place, String> {
        let environment = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Place::find(bucket, options, &Profile::default(), &environment)
    }

    fn options(endpoint: Option<&str>, region: Option<&str>, path_style: Option<bool>) -> S3Options {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        S3Options { endpoint: owned(endpoint), region: owned(region), path_style, ..S3Options::default() }
    }

    #[test]
    fn amazons_server_of_the_region_is_the_default() {
        let place = find("notes", &options(None, Some("eu-west-1"), None), &[]).unwrap();
        assert_eq!(place.bucket_url, "https://notes.s3.eu-west-1.amazonaws.com");
        assert_eq!(place.authority, "notes.s3.eu-west-1.amazonaws.com");
        let dotted = find("my.notes", &options(None, None, None), &[("AWS_REGION", "eu-north-1")]).unwrap();
        assert_eq!(dotted.bucket_url, "https://s3.eu-north-1.amazonaws.com/my.notes");
        assert_eq!(find("notes", &options(None, None, None), &[]).unwrap().region, "us-east-1");
    }

    #[test]
    fn an_endpoint_is_asked_in_path_style_unless_told_otherwise() {
        let path = find("notes", &options(Some("http://Host:9000/"), None, None), &[]).unwrap();
        assert_eq!(
            (path.bucket_url.as_str(), path.authority.as_str()),
            ("http://host:9000/notes", "host:9000")
        );
        let host = find("notes", &options(Some("https://host"), None, Some(false)), &[]).unwrap();
        assert_eq!(host.bucket_url, "https://notes.host");
        let below = find("notes", &options(Some("https://host/storage/v1/s3/"), None, None), &[]).unwrap();
        assert_eq!(below.bucket_url, "https://host/storage/v1/s3/notes");
        let variables = [("AWS_ENDPOINT_URL", "http://a:1"), ("AWS_ENDPOINT_URL_S3", "http://b:2")];
        let of_environment = find("notes", &options(None, None, None), &variables).unwrap();
        assert_eq!(of_environment.bucket_url, "http://b:2/notes");
    }

    #[test]
    fn an_endpoint_that_is_none_is_refused_without_repeating_a_secret() {
        for text in ["host:9000", "ftp://host", "https://", "https://a b", "https://host?x=1", "https:///x"] {
            assert!(find("notes", &options(Some(text), None, None), &[]).is_err(), "{text}");
        }
        let refused = find("notes", &options(Some("https://key:s3cr3t@host"), None, None), &[]).unwrap_err();
        assert!(refused.contains("credentials") && !refused.contains("s3cr3t"), "{refused}");
    }
}

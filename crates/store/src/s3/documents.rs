//! The documents that answers carry: a page of a listing, what a removal kept. Pure.
//!
//! Markup in a text is escaped, so an element ends at its closing tag. Keys that no [`Key`] can be (`a//b`, the empty
//! objects `dir/` that consoles make) are not Stead's, and are passed over.

use super::answer::element;
use crate::{Key, Listed};

/// A page of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub objects: Vec<Listed>,
    /// Where the next page begins.
    pub next: Option<String>,
}

impl Page {
    /// Reads a page of keys below a root (`notes/`, or nothing). `None`: it is no such document.
    pub fn parse(document: &str, root: &str) -> Option<Page> {
        if !document.contains("<ListBucketResult") {
            return None;
        }
        let mut objects = Vec::new();
        for entry in document.split("<Contents>").skip(1) {
            let entry = entry.split("</Contents>").next()?;
            let len = element(entry, "Size")?.trim().parse().ok()?;
            let Some(key) = element(entry, "Key") else { continue };
            let key = key.strip_prefix(root).and_then(|key| Key::parse(key).ok());
            objects.extend(key.map(|key| Listed { key, len }));
        }
        let next = element(document, "NextContinuationToken");
        let more = element(document, "IsTruncated").is_some_and(|text| text.trim() == "true");
        if more && next.is_none() {
            return None;
        }
        Some(Page { objects, next: next.filter(|_| more) })
    }
}

/// What a server could not remove of many: the first entry of it. An object that is absent is fine.
pub(super) fn first_kept(document: &str) -> Option<&str> {
    let entries = document.split("<Error>").skip(1).filter_map(|entry| entry.split("</Error>").next());
    entries.into_iter().find(|entry| element(entry, "Code").as_deref() != Some("NoSuchKey"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>notes</Name><Prefix>a/</Prefix>
<KeyCount>4</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>
<Contents><Key>a/x &amp; y</Key><LastModified>2026-11-22T07:00:00.000Z</LastModified><Size>12</Size></Contents>
<Contents><Key>a/%40@2 ü</Key><Size>0</Size></Contents>
<Contents><Key>a/dir/</Key><Size>0</Size></Contents>
<Contents><Key>a/b//c</Key><Size>1</Size></Contents>
<NextContinuationToken>to&lt;ken</NextContinuationToken></ListBucketResult>"#;

    #[test]
    fn a_page_shows_keys_byte_for_byte_and_passes_over_what_is_not_ours() {
        let page = Page::parse(PAGE, "a/").unwrap();
        let shown: Vec<_> = page.objects.iter().map(|object| (object.key.as_str(), object.len)).collect();
        assert_eq!(shown, [("x & y", 12), ("%40@2 ü", 0)]);
        assert_eq!(page.next.as_deref(), Some("to<ken"));
    }

    #[test]
    fn a_page_that_says_there_is_more_says_where() {
        let cut = PAGE.replace("NextContinuationToken", "Other");
        assert_eq!(Page::parse(&cut, "a/"), None);
        let last = PAGE.replace("<IsTruncated>true", "<IsTruncated>false");
        assert_eq!(Page::parse(&last, "a/").unwrap().next, None);
        assert_eq!(Page::parse("<html></html>", ""), None);
    }

    #[test]
    fn a_removal_names_what_it_kept() {
        let document = "<DeleteResult><Error><Key>a</Key><Code>NoSuchKey</Code></Error><Error><Key>b</Key>\
                        <Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>";
        let kept = first_kept(document).unwrap();
        assert_eq!(element(kept, "Key").as_deref(), Some("b"));
        assert_eq!(first_kept("<DeleteResult></DeleteResult>"), None);
    }
}

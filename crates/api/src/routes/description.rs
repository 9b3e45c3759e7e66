//! `GET /openapi.json`: the description of all routes, written by hand and held to them by tests.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

const DESCRIPTION: &str = include_str!("../openapi.json");

pub async fn show() -> Response {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_description_has_the_routes_and_no_others() {
        let description: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap();
        let described: BTreeSet<(String, String)> = description["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
                methods.map(move |method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let routed: BTreeSet<_> =
            table().iter().flat_map(|row| row.operations().collect::<Vec<_>>()).collect();
        assert_eq!(described, routed);
    }

    #[test]
    fn the_description_has_the_error_codes_of_the_reference() {
        let description: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap();
        let codes =
            &description["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"];
        let described: Vec<&str> =
            codes["enum"].as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
        let page = include_str!("../../../../docs/reference/http.md");
        let (_, table) = page.split_once("| status | `code` |\n|---|---|\n").unwrap();
        let table = table.split("\n\n").next().unwrap().split('`').skip(1).step_by(2);
        let documented: BTreeSet<&str> = table.filter(|word| !word.starts_with('/')).collect();
        assert_eq!(described.iter().copied().collect::<BTreeSet<_>>(), documented);
        assert!(described.is_sorted(), "{described:?}");
    }
}

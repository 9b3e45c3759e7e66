//! Holds answers against the description that the node itself gives.

use serde_json::{Value, json};

/// What `GET /openapi.json` answered.
pub struct Described(Value);

impl Described {
    pub fn new(description: Value) -> Described {
        assert_eq!(description["openapi"], "3.1.0");
        Described(description)
    }

    /// An answer is one that the description has for this request.
    pub fn holds(&self, (method, path): (&str, &str), status: u16, body: &Value) {
        let schema = match self.operation(method, path) {
            Some(operation) => {
                let response = self.resolve(&operation["responses"][status.to_string()]);
                assert!(!response.is_null(), "{method} {path} has no {status} in the description: {body:#}");
                response["content"]["application/json"]["schema"].clone()
            }
            // Another method, or another route.
            None => {
                assert!(matches!(status, 401 | 403 | 404 | 405), "{method} {path}: {status}");
                json!({ "$ref": "#/components/schemas/Error" })
            }
        };
        let whole = json!({ "allOf": [schema], "components": self.0["components"] });
        let validator = jsonschema::validator_for(&whole).unwrap();
        let wrong: Vec<String> =
            validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{method} {path} {status}: {wrong:#?}\n{body:#}");
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let path = path.split('?').next().unwrap_or(path);
        let paths = self.0["paths"].as_object().unwrap();
        let fits = |template: &str| match template.split_once('{') {
            None => path == template,
            Some((head, rest)) => path
                .strip_prefix(head)
                .is_some_and(|value| !value.is_empty() && (rest == "path}" || !value.contains('/'))),
        };
        let (_, item) = paths.iter().find(|(template, _)| fits(template))?;
        item.get(method.to_lowercase())
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }
}

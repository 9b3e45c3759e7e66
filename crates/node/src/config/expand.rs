//! `${VAR}` and `${VAR:-default}` inside the values of configuration files.
//!
//! `$${` stands for a literal `${`. An expansion never looks at what it inserted. [`escape`] is the way back: it turns
//! literal text into text that expands to itself, so that what came without expansion can be kept in a file.

use super::problem::Problem;
use serde_json::Value;
use std::collections::BTreeSet;

/// Where variables come from; `None` where one is not set.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A document with its variables replaced.
#[derive(Debug)]
pub struct Expanded {
    /// The values.
    pub value: Value,
    /// The paths of values that an expansion made; they are typed as if they had been written there.
    pub made: BTreeSet<String>,
}

/// Replaces variables in every string below `value`.
pub fn expand(value: &Value, variables: Variables<'_>, problems: &mut Vec<Problem>) -> Expanded {
    let mut made = BTreeSet::new();
    let value = walk(value, "", variables, &mut made, problems);
    Expanded { value, made }
}

fn walk(
    value: &Value,
    path: &str,
    variables: Variables<'_>,
    made: &mut BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> Value {
    match value {
        Value::String(text) if text.contains("${") => {
            let expanded = expand_text(text, variables).unwrap_or_else(|fault| {
                problems.push(Problem::new(path, fault.message, fault.hint));
                // Null: nothing more is said about a value whose text is not known.
                String::new()
            });
            made.insert(path.to_owned());
            Value::String(expanded)
        }
        Value::Array(items) => Value::Array(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| walk(item, &format!("{path}[{index}]"), variables, made, problems))
                .collect(),
        ),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, field)| (key.clone(), walk(field, &join(path, key), variables, made, problems)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// A key below a path.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Why a text does not expand.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    message: String,
    hint: String,
}

fn expand_text(text: &str, variables: Variables<'_>) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let Some(end) = after.find('}') else {
                return Err(Fault {
                    message: format!("`{rest}` has no closing brace"),
                    hint: "write ${NAME} or ${NAME:-default}; $${ stands for a literal ${".to_owned(),
                });
            };
            out.push_str(&variable(&after[..end], variables)?);
            rest = &after[end + 1..];
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(inside: &str, variables: Variables<'_>) -> Result<String, Fault> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err(Fault {
            message: format!("`${{{inside}}}` names no environment variable"),
            hint: "write ${NAME} or ${NAME:-default}; $${ stands for a literal ${".to_owned(),
        });
    }
    match (variables(name).filter(|value| default.is_none() || !value.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Fault {
            message: format!("the environment variable {name} is not set"),
            hint: format!("set {name}, or give a default: ${{{name}:-default}}"),
        }),
    }
}

/// Whether a text can be the name of a variable.
pub fn is_name(text: &str) -> bool {
    let head = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    head && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a text names a variable, with or without a default or something around it.
pub fn has_variables(text: &str) -> bool {
    text.replace("$${", "").contains("${")
}

/// Whether a text is `${NAME}` and nothing else, so that it may be shown whatever it stands for.
pub fn is_name_alone(text: &str) -> bool {
    text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(is_name)
}

/// The variables that a text names.
pub fn names_in(text: &str) -> Vec<String> {
    let text = text.replace("$${", "");
    let parts = text.split("${").skip(1);
    let names = parts.map(|part| part.split(['}', ':']).next().unwrap_or(""));
    names.filter(|name| is_name(name)).map(str::to_owned).collect()
}

/// Literal text as a file must have it to expand to itself.
pub fn escape(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("${", "$${")),
        Value::Array(items) => Value::Array(items.iter().map(escape).collect()),
        Value::Object(fields) => fields.iter().map(|(key, field)| (key.clone(), escape(field))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_and_defaults_are_replaced_once() {
        for (text, expanded) in [
            ("plain $5 and $A", "plain $5 and $A"),
            ("${A}", "one"),
            ("x${A}y${A}", "xoneyone"),
            ("${EMPTY}", ""),
            ("${EMPTY:-two}", "two"),
            ("${MISSING:-two}", "two"),
            ("${MISSING:-}", ""),
            ("${NESTED}", "${A}"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("ends in $", "ends in $"),
        ] {
            assert_eq!(expand_text(text, &environment).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn the_names_in_a_text_are_those_that_are_replaced() {
        assert_eq!(names_in("a${A}b${B:-${C}}$${D}$E${1}"), ["A", "B", "C"]);
        assert_eq!(names_in("plain"), [""; 0]);
    }

    #[test]
    fn what_does_not_expand_says_why() {
        for (text, message) in [
            ("${MISSING}", "the environment variable MISSING is not set"),
            ("${A", "`${A` has no closing brace"),
            ("${}", "`${}` names no environment variable"),
            ("${1A}", "`${1A}` names no environment variable"),
            ("${A-b}", "`${A-b}` names no environment variable"),
        ] {
            assert_eq!(expand_text(text, &environment).unwrap_err().message, message);
        }
    }

    proptest! {
        #[test]
        fn escaped_text_expands_to_itself(text in "[$ {}A:-]{0,12}") {
            let Value::String(escaped) = escape(&Value::String(text.clone())) else { unreachable!() };
            prop_assert_eq!(expand_text(&escaped, &environment), Ok(text));
        }
    }
}

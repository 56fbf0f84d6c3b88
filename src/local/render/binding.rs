//! The properties a job's templates see: exactly those its spec declares, each as the manifest says or by
//! default. docs/local-director.md#properties

use serde_json::{Map, Value};

use crate::local::release::Property;

/// Binds what the manifest says to what the job declares.
///
/// # Errors
/// Where the manifest has a plain value in the middle of a declared path; the Director's text.
pub(super) fn bind(declared: &[Property], written: &Map<String, Value>) -> Result<Value, String> {
    let mut bound = Map::new();
    for property in declared {
        let value = lookup(written, &property.name)?.or(property.default.as_ref());
        set(&mut bound, &property.name, value.cloned().unwrap_or(Value::Null));
    }
    Ok(Value::Object(bound))
}

/// The value at a dotted path; null counts as missing.
fn lookup<'a>(written: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Value>, String> {
    let mut keys = name.split('.');
    let mut found = keys.next().and_then(|first| written.get(first));
    for key in keys {
        found = match found {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(below)) => below.get(key),
            Some(other) => {
                return Err(format!(
                    "Property '{name}' expects a hash, but received '{}'",
                    ruby_class(other)
                ));
            }
        };
    }
    Ok(found.filter(|value| !value.is_null()))
}

/// Puts a value at a dotted path. Whoever declares both `a` and `a.b` gets both, the longer over the shorter.
fn set(target: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            target.insert(name.to_owned(), value);
        }
        Some((first, rest)) => {
            let below = target.entry(first).or_insert(Value::Null);
            if !below.is_object() {
                *below = Value::Object(Map::new());
            }
            set(below.as_object_mut().expect("made an object on the line above"), rest, value);
        }
    }
}

fn ruby_class(value: &Value) -> &'static str {
    match value {
        Value::Null => "NilClass",
        Value::Bool(true) => "TrueClass",
        Value::Bool(false) => "FalseClass",
        Value::Number(number) if number.is_f64() => "Float",
        Value::Number(_) => "Integer",
        Value::String(_) => "String",
        Value::Array(_) => "Array",
        Value::Object(_) => "Hash",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bound(declared: &[(&str, Value)], written: &Value) -> Result<Value, String> {
        let declared: Vec<_> = declared
            .iter()
            .map(|(name, default)| Property {
                name: (*name).to_owned(),
                default: Some(default.clone()).filter(|value| !value.is_null()),
            })
            .collect();
        bind(&declared, written.as_object().expect("a mapping"))
    }

    #[test]
    #[rustfmt::skip]
    fn declared_properties_are_bound_and_nothing_else() {
        let cases = [
            ("the manifest's value",               json!([["a.b", 1]]),              json!({"a": {"b": 2}}),      json!({"a": {"b": 2}})),
            ("the default",                        json!([["a.b", 1]]),              json!({}),                   json!({"a": {"b": 1}})),
            ("neither",                            json!([["a.b", null]]),           json!({}),                   json!({"a": {"b": null}})),
            ("null is missing",                    json!([["a", 1]]),                json!({"a": null}),          json!({"a": 1})),
            ("null on the way is missing",         json!([["a.b", 1]]),              json!({"a": null}),          json!({"a": {"b": 1}})),
            ("false and the empty text are there", json!([["a", true], ["b", "x"]]), json!({"a": false, "b": ""}), json!({"a": false, "b": ""})),
            ("an undeclared one is invisible",     json!([["a.b", 1]]),              json!({"a": {"c": 2}, "d": 3}), json!({"a": {"b": 1}})),
            ("a key with a dot does not match",    json!([["a.b", 1]]),              json!({"a.b": 2}),           json!({"a": {"b": 1}})),
            ("defaults are not merged",            json!([["a", {"x": 1, "y": 1}]]), json!({"a": {"x": 2}}),      json!({"a": {"x": 2}})),
            ("both a and a.b",                     json!([["a", {"x": 1}], ["a.b", 2]]), json!({}),               json!({"a": {"x": 1, "b": 2}})),
        ];
        for (row, declared, written, expected) in cases {
            let declared: Vec<(String, Value)> = serde_json::from_value(declared).expect("pairs");
            let declared: Vec<_> = declared.iter().map(|(name, default)| (name.as_str(), default.clone())).collect();

            assert_eq!(bound(&declared, &written), Ok(expected), "{row}");
        }
    }

    #[test]
    fn a_plain_value_on_the_way_is_an_error() {
        let classes = [
            (json!(5), "Integer"),
            (json!(0.5), "Float"),
            (json!("x"), "String"),
            (json!([]), "Array"),
            (json!(true), "TrueClass"),
        ];
        for (value, class) in classes {
            let error = bound(&[("etcd.port", json!(1))], &json!({"etcd": value}));

            assert_eq!(error, Err(format!("Property 'etcd.port' expects a hash, but received '{class}'")));
        }
    }
}

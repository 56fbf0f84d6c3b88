//! The properties a job's templates see: exactly those its spec declares, each as the manifest says or by
//! default. docs/contract.md#properties

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

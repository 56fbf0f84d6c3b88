//! One mapping of a YAML document and the path that leads to it, so that every complaint names its place.
//!
//! Why not serde's derive: the Director tolerates unknown keys, takes numbers where it wants text, and
//! treats a key that is there but empty (`azs: ~`) as a mistake. Its rules, and errors that an operator
//! can act on, are easier to read as calls than as attributes.

use anyhow::{Result, anyhow};
use serde_json::{Map, Number, Value};

use crate::report::Complaint;

/// A mapping with its place in the document.
#[derive(Debug, Clone)]
pub(super) struct Section<'a> {
    place: String,
    keys: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    /// The mapping `value`; `place` is how messages call it.
    pub(super) fn new(place: impl Into<String>, value: &'a Value) -> Result<Self> {
        let place = place.into();
        match value {
            Value::Object(keys) => Ok(Self { place, keys }),
            other => Err(mistake(format!("{place} should be a mapping, but is {}", kind(other)))),
        }
    }

    /// The same mapping under a name that says more, for example once its `name` was read.
    pub(super) fn called(self, place: impl Into<String>) -> Self {
        Self { place: place.into(), ..self }
    }

    /// How messages call this mapping.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The raw value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.keys.get(key)
    }

    /// Required text; a number is taken as its text.
    pub(super) fn text(&self, key: &str) -> Result<String> {
        self.optional_text(key)?.ok_or_else(|| self.missing(key))
    }

    /// Optional text.
    pub(super) fn optional_text(&self, key: &str) -> Result<Option<String>> {
        self.get(key)
            .map(|value| match value {
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                other => Err(self.wrong_type(key, "text", other)),
            })
            .transpose()
    }

    /// A required whole number, zero or more.
    pub(super) fn count(&self, key: &str) -> Result<u32> {
        self.optional_count(key)?.ok_or_else(|| self.missing(key))
    }

    /// An optional whole number, zero or more.
    pub(super) fn optional_count(&self, key: &str) -> Result<Option<u32>> {
        self.get(key)
            .map(|value| {
                value
                    .as_u64()
                    .and_then(|count| u32::try_from(count).ok())
                    .ok_or_else(|| self.wrong_type(key, "a whole number of zero or more", value))
            })
            .transpose()
    }

    /// An optional boolean.
    pub(super) fn optional_flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key)
            .map(|value| value.as_bool().ok_or_else(|| self.wrong_type(key, "true or false", value)))
            .transpose()
    }

    /// A list; empty when the key is absent.
    pub(super) fn list(&self, key: &str) -> Result<&'a [Value]> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(self.wrong_type(key, "a list", other)),
        }
    }

    /// A list of texts; empty when the key is absent.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>> {
        self.list(key)?
            .iter()
            .map(|item| {
                item.as_str().map(str::to_owned).ok_or_else(|| {
                    mistake(format!("{}: '{key}' should list texts, but has {}", self.place, kind(item)))
                })
            })
            .collect()
    }

    /// A list of mappings, each called `KEY[N] of PLACE`; empty when the key is absent.
    pub(super) fn sections(&self, key: &str) -> Result<Vec<Section<'a>>> {
        let items = self.list(key)?.iter().enumerate();
        items.map(|(at, item)| Section::new(format!("{key}[{at}] of {}", self.place), item)).collect()
    }

    /// An optional mapping, called `KEY of PLACE`.
    pub(super) fn optional_section(&self, key: &str) -> Result<Option<Section<'a>>> {
        self.get(key).map(|value| Section::new(format!("'{key}' of {}", self.place), value)).transpose()
    }

    /// An optional mapping as plain data.
    pub(super) fn mapping(&self, key: &str) -> Result<Option<&'a Map<String, Value>>> {
        Ok(self.optional_section(key)?.map(|section| section.keys))
    }

    /// Fails unless the key is there.
    pub(super) fn require(&self, key: &str) -> Result<()> {
        self.get(key).map(|_| ()).ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> anyhow::Error {
        mistake(format!("{} lacks the required key '{key}'", self.place))
    }

    fn wrong_type(&self, key: &str, wanted: &str, found: &Value) -> anyhow::Error {
        // The value itself stays out of the message: it may be a secret.
        mistake(format!("{}: '{key}' should be {wanted}, but is {}", self.place, kind(found)))
    }
}

/// A mistake in a file that a person wrote.
pub(super) fn mistake(what: impl Into<String>) -> anyhow::Error {
    anyhow!(Complaint::failed(
        what,
        "the BOSH Director refuses it too, before anything is changed",
        "correct the manifest, the ops file or the job spec that says so, and deploy again",
    ))
}

/// What a value is, in an operator's words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty (null)",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Parses YAML into plain data; keys that are no text (`1:`, `true:`) become text.
pub(super) fn parse(yaml: &str) -> Result<Value> {
    let mut document: serde_yaml::Value = serde_yaml::from_str(yaml)?;
    document.apply_merge()?;
    plain(document)
}

fn plain(value: serde_yaml::Value) -> Result<Value> {
    Ok(match value {
        serde_yaml::Value::Null => Value::Null,
        serde_yaml::Value::Bool(flag) => Value::Bool(flag),
        serde_yaml::Value::Number(number) => plain_number(&number)?,
        serde_yaml::Value::String(text) => Value::String(text),
        serde_yaml::Value::Sequence(items) => {
            Value::Array(items.into_iter().map(plain).collect::<Result<_>>()?)
        }
        serde_yaml::Value::Mapping(entries) => {
            let entries = entries.into_iter().map(|(key, value)| Ok((plain_key(key)?, plain(value)?)));
            Value::Object(entries.collect::<Result<_>>()?)
        }
        serde_yaml::Value::Tagged(tagged) => plain(tagged.value)?,
    })
}

fn plain_key(key: serde_yaml::Value) -> Result<String> {
    match plain(key)? {
        Value::String(text) => Ok(text),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(mistake(format!("a key of the document is {}", kind(&other)))),
    }
}

fn plain_number(number: &serde_yaml::Number) -> Result<Value> {
    let whole = number.as_i64().map(Number::from).or_else(|| number.as_u64().map(Number::from));
    whole
        .or_else(|| number.as_f64().and_then(Number::from_f64))
        .map(Value::Number)
        .ok_or_else(|| mistake(format!("the number {number} has no plain form")))
}

//! Protocol buffers read in place: the fields of a message, without a copy.
//!
//! The messages in a log are up to megabytes long, and a reader wants a number out of them.

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end in the middle of a field.
    #[error("ends in the middle of a field")]
    Truncated,
    /// A field has a form that no field has, or another one than it should.
    #[error("has a field of a wrong form")]
    Invalid,
}

/// What a field holds, by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32(u32),
}

/// The fields of a message, in the order they were written.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Value<'a> {
    /// The number; a field of another form is [`Malformed::Invalid`].
    pub fn number(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number),
            Self::Fixed64(_) | Self::Bytes(_) | Self::Fixed32(_) => Err(Malformed::Invalid),
        }
    }

    /// The bytes; a field of another form is [`Malformed::Invalid`].
    pub fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(Malformed::Invalid),
        }
    }

    /// The text; bytes that are none are [`Malformed::Invalid`].
    pub fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Invalid)
    }
}

impl<'a> Fields<'a> {
    /// The fields of this message.
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                // More than any file has is no length at all: Go reads it as a negative one.
                let length = i64::try_from(length).map_err(|_| Malformed::Invalid)?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| Malformed::Truncated)?)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups: nothing that etcd writes has them.
            _ => return Err(Malformed::Invalid),
        };
        match key >> 3 {
            0 => Err(Malformed::Invalid),
            number => Ok((number, value)),
        }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed::Invalid)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }
}

impl<'a> Iterator for Fields<'a> {
    /// The field's number and what it holds.
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    type Read<'a> = Result<Vec<(u64, Value<'a>)>, Malformed>;

    fn read(message: &[u8]) -> Read<'_> {
        Fields::of(message).collect()
    }

    #[test]
    fn every_form_is_read_and_what_is_none_is_refused() {
        use Malformed::{Invalid, Truncated};
        #[rustfmt::skip]
        let cases: [(&[u8], Read<'_>); 11] = [
            (&[],                                Ok(vec![])),
            (&[0x08, 0x96, 0x01],                Ok(vec![(1, Value::Varint(150))])),
            (&[0x12, 2, b'a', b'b', 0x08, 0],    Ok(vec![(2, Value::Bytes(b"ab")), (1, Value::Varint(0))])),
            (&[0x0d, 1, 0, 0, 0],                Ok(vec![(1, Value::Fixed32(1))])),
            (&[0x09, 1, 0, 0, 0, 0, 0, 0, 0],    Ok(vec![(1, Value::Fixed64(1))])),
            (&[0x08],                            Err(Truncated)),
            (&[0x12, 3, b'a'],                   Err(Truncated)),
            (&[0x0d, 1, 0],                      Err(Truncated)),
            (&[0x00, 0],                         Err(Invalid)),
            (&[0x0b, 0x0c],                      Err(Invalid)),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Err(Invalid)),
        ];
        for (message, expected) in cases {
            assert_eq!(read(message), expected, "{message:?}");
        }
    }

    #[derive(Clone, PartialEq, Message)]
    struct Sample {
        #[prost(uint64, tag = "1")]
        number: u64,
        #[prost(bytes = "vec", tag = "2")]
        bytes: Vec<u8>,
    }

    proptest! {
        #[test]
        fn what_an_encoder_writes_is_read(number: u64, bytes: Vec<u8>) {
            let message = Sample { number, bytes: bytes.clone() }.encode_to_vec();
            for field in read(&message).unwrap() {
                match field {
                    (1, value) => prop_assert_eq!(value.number(), Ok(number)),
                    (2, value) => prop_assert_eq!(value.bytes(), Ok(bytes.as_slice())),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(message: Vec<u8>) {
            let _ = read(&message);
        }
    }
}

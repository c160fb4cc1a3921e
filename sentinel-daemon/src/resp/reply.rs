//! Writes answers in RESP2 or RESP3 straight into the output of a connection.
//!
//! Knows the shapes of both protocol versions and nothing of what is said in them. There is no tree
//! of values in between: an answer is written once, in order, without an allocation of its own.

use bytes::{BufMut, BytesMut};

/// Version of the protocol that a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every client speaks at first.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// Writes answers to one client.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut BytesMut,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// Appends to these bytes.
    pub fn new(out: &'a mut BytesMut, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// Which version it writes.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Writes another version from here on, which is what `HELLO` asks for.
    pub fn switch(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// A short text without line breaks, such as `OK`.
    pub fn simple(&mut self, text: &str) {
        self.out.put_u8(b'+');
        self.line(text.as_bytes());
    }

    /// An error; the text begins with its code. Line breaks in it become spaces.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        self.out.put_u8(b'-');
        for &byte in text.as_ref() {
            self.out.put_u8(match byte {
                b'\r' | b'\n' => b' ',
                other => other,
            });
        }
        self.out.put_slice(b"\r\n");
    }

    /// A number.
    pub fn integer(&mut self, number: u64) {
        self.header(b':', number);
    }

    /// A number that may be below zero.
    pub fn signed(&mut self, number: i32) {
        self.out.put_u8(b':');
        if number < 0 {
            self.out.put_u8(b'-');
        }
        let mut digits = [0; 20];
        self.line(decimal(u64::from(number.unsigned_abs()), &mut digits));
    }

    /// A text or bytes.
    pub fn bulk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.header(b'$', bytes.len() as u64);
        self.line(bytes);
    }

    /// A number in the form of a text, as most fields of the Sentinel protocol are.
    pub fn bulk_number(&mut self, number: u64) {
        let mut digits = [0; 20];
        let digits = decimal(number, &mut digits);
        self.header(b'$', digits.len() as u64);
        self.out.put_slice(digits);
        self.out.put_slice(b"\r\n");
    }

    /// A text for people; RESP3 marks it as one.
    pub fn verbatim(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len() as u64 + 4);
                self.out.put_slice(b"txt:");
                self.line(text.as_bytes());
            }
        }
    }

    /// No text.
    pub fn null(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.out.put_slice(b"$-1\r\n"),
            Protocol::Resp3 => self.out.put_slice(b"_\r\n"),
        }
    }

    /// No array.
    pub fn null_array(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.out.put_slice(b"*-1\r\n"),
            Protocol::Resp3 => self.out.put_slice(b"_\r\n"),
        }
    }

    /// Begins an array; so many answers follow.
    pub fn array(&mut self, items: usize) {
        self.header(b'*', items as u64);
    }

    /// Begins a set; so many answers follow.
    pub fn set(&mut self, items: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(items),
            Protocol::Resp3 => self.header(b'~', items as u64),
        }
    }

    /// Begins a map; twice as many answers follow, each key before its value.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(pairs * 2),
            Protocol::Resp3 => self.header(b'%', pairs as u64),
        }
    }

    /// Begins what a client did not ask for just now; so many answers follow.
    pub fn push(&mut self, items: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(items),
            Protocol::Resp3 => self.header(b'>', items as u64),
        }
    }

    fn header(&mut self, kind: u8, number: u64) {
        let mut digits = [0; 20];
        let digits = decimal(number, &mut digits);
        self.out.put_u8(kind);
        self.line(digits);
    }

    fn line(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
        self.out.put_slice(b"\r\n");
    }
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        // The remainder of a division by ten fits a byte.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Write = fn(&mut Reply<'_>);

    #[test]
    fn shapes() {
        let table: &[(Write, &[u8], &[u8])] = &[
            (|r| r.simple("OK"), b"+OK\r\n", b"+OK\r\n"),
            (
                |r| r.error("ERR a\r\nb"),
                b"-ERR a  b\r\n",
                b"-ERR a  b\r\n",
            ),
            (|r| r.integer(0), b":0\r\n", b":0\r\n"),
            (
                |r| r.integer(u64::MAX),
                b":18446744073709551615\r\n",
                b":18446744073709551615\r\n",
            ),
            (|r| r.signed(-2), b":-2\r\n", b":-2\r\n"),
            (|r| r.bulk(""), b"$0\r\n\r\n", b"$0\r\n\r\n"),
            (
                |r| r.bulk_number(1024),
                b"$4\r\n1024\r\n",
                b"$4\r\n1024\r\n",
            ),
            (|r| r.verbatim("hi"), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n"),
            (|r| r.null(), b"$-1\r\n", b"_\r\n"),
            (|r| r.null_array(), b"*-1\r\n", b"_\r\n"),
            (|r| r.array(2), b"*2\r\n", b"*2\r\n"),
            (|r| r.set(2), b"*2\r\n", b"~2\r\n"),
            (|r| r.map(2), b"*4\r\n", b"%2\r\n"),
            (|r| r.push(3), b"*3\r\n", b">3\r\n"),
        ];
        for (index, (write, resp2, resp3)) in table.iter().enumerate() {
            for (protocol, wanted) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
                let mut out = BytesMut::new();
                write(&mut Reply::new(&mut out, protocol));
                assert_eq!(&out[..], *wanted, "line {index} in {protocol:?}");
            }
        }
    }
}

//! Requests whole, cut off anywhere, and made of noise. The error texts were recorded from Redis Sentinel 7.0.15.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// All requests in the bytes, then the error, if the bytes end in one.
fn all(bytes: &[u8], trust: Trust) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    let mut reader = RequestReader::default();
    let mut found = Vec::new();
    let mut rest = bytes;
    loop {
        match reader.read(rest, trust) {
            Ok(Progress::Incomplete) => return (found, None),
            Ok(Progress::Request { consumed }) => {
                assert!(consumed > 0 && consumed <= rest.len());
                let args = reader.args(rest);
                if !args.is_empty() {
                    found.push(args.from(0).map(<[u8]>::to_vec).collect());
                }
                rest = &rest[consumed..];
            }
            Err(error) => return (found, Some(error.to_string())),
        }
    }
}

fn words(request: &[&str]) -> Vec<Vec<u8>> {
    request
        .iter()
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

#[test]
fn requests() {
    let table: &[(&[u8], &[&[&str]])] = &[
        (b"*1\r\n$4\r\nPING\r\n", &[&["PING"]]),
        (
            b"*2\r\n$4\r\nPING\r\n$0\r\n\r\nPING\r\n",
            &[&["PING", ""], &["PING"]],
        ),
        (b"*0\r\n*-1\r\n*-5\r\nPING\n", &[&["PING"]]),
        (b"\r\n   \r\nping  'a b'\r\n", &[&["ping", "a b"]]),
        (
            b"ping \"\\x41\\n\\\"\" 'it\\'s'\r\n",
            &[&["ping", "A\n\"", "it's"]],
        ),
        (b"\x00\x01\r\nPING\r\n", &[&["PING"]]),
        (b"*1\r\n$4\r\nPINGxx*1\r\n", &[&["PING"]]),
    ];
    for (bytes, wanted) in table {
        let wanted: Vec<_> = wanted.iter().map(|request| words(request)).collect();
        assert_eq!(
            all(bytes, Trust::Authenticated),
            (wanted, None),
            "{bytes:?}"
        );
    }
}

#[test]
fn errors_read_as_redis_words_them() {
    use Trust::{Authenticated, Unauthenticated};
    let long = |start: &str| [start.as_bytes(), &[b'1'; 5000]].concat();
    let table: &[(&[u8], Trust, &str)] = &[
        (b"*abc\r\n", Authenticated, "invalid multibulk length"),
        (
            b"*99999999999999999999\r\n",
            Authenticated,
            "invalid multibulk length",
        ),
        (b"*+1\r\n", Authenticated, "invalid multibulk length"),
        (b"*01\r\n", Authenticated, "invalid multibulk length"),
        (b"*65\r\n", Authenticated, "invalid multibulk length"),
        (
            b"*11\r\n",
            Unauthenticated,
            "unauthenticated multibulk length",
        ),
        (
            b"*99999999999\r\n",
            Unauthenticated,
            "invalid multibulk length",
        ),
        (b"*1\r\nxabc\r\n", Authenticated, "expected '$', got 'x'"),
        (b"*1\r\n\r\n", Authenticated, "expected '$', got ' '"),
        (b"*1\r\n'\r\n", Authenticated, "expected '$', got '''"),
        (b"*1\r\n$abc\r\n", Authenticated, "invalid bulk length"),
        (b"*1\r\n$-1\r\n", Authenticated, "invalid bulk length"),
        (
            b"*1\r\n$04\r\nPING\r\n",
            Authenticated,
            "invalid bulk length",
        ),
        (b"*1\r\n$16385\r\n", Authenticated, "invalid bulk length"),
        (
            b"*1\r\n$16385\r\n",
            Unauthenticated,
            "unauthenticated bulk length",
        ),
        (
            b"*1\r\n$600000000\r\n",
            Unauthenticated,
            "invalid bulk length",
        ),
        (&long("x"), Authenticated, "too big inline request"),
        (&long("*"), Authenticated, "too big mbulk count string"),
        (&long("*1\r\n$"), Authenticated, "too big bulk count string"),
        (
            b"ping 'a\r\n",
            Authenticated,
            "unbalanced quotes in request",
        ),
        (
            b"ping \"a\"b\r\n",
            Authenticated,
            "unbalanced quotes in request",
        ),
    ];
    for (bytes, trust, wanted) in table {
        let (_, error) = all(bytes, *trust);
        assert_eq!(
            error.as_deref(),
            Some(format!("Protocol error: {wanted}").as_str()),
            "{:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
        );
    }
}

#[test]
fn all_arguments_together_are_limited() {
    let argument = [b"$16384\r\n".as_slice(), &[b'a'; 16_384], b"\r\n"].concat();
    let request = [b"*5\r\n".to_vec(), argument.repeat(5)].concat();
    let (found, error) = all(&request, Trust::Authenticated);
    assert_eq!(found.len(), 0);
    assert_eq!(error.as_deref(), Some("Protocol error: too big request"));
}

#[test]
fn a_request_cut_off_anywhere_is_incomplete() {
    let whole: &[u8] =
        b"*3\r\n$8\r\nSENTINEL\r\n$23\r\nGET-MASTER-ADDR-BY-NAME\r\n$6\r\norders\r\n";
    for end in 0..whole.len() {
        assert_eq!(
            all(&whole[..end], Trust::Authenticated),
            (vec![], None),
            "{end}"
        );
    }
    let wanted = words(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "orders"]);
    assert_eq!(all(whole, Trust::Authenticated), (vec![wanted], None));
}

/// Noise made of what the protocol is made of reaches far more states than plain noise does.
#[test]
fn any_bytes_are_survived() {
    const ALPHABET: &[&[u8]] = &[
        b"*",
        b"$",
        b"\r\n",
        b"\r",
        b"\n",
        b"0",
        b"1",
        b"2",
        b"64",
        b"-1",
        b"PING",
        b"'",
        b"\"",
        b"\\x4",
        b"\\",
        b" ",
        b"\0",
        b"\xff",
        b"16384",
        b"99999999999999999999",
    ];
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..random.random_range(0..40) {
            if random.random_bool(0.1) {
                bytes.push(random.random());
            } else {
                bytes.extend_from_slice(ALPHABET[random.random_range(0..ALPHABET.len())]);
            }
        }
        let whole = all(&bytes, Trust::Authenticated);
        // What was found in a part of the bytes is found again in all of them.
        let cut = random.random_range(0..=bytes.len());
        let (part, error) = all(&bytes[..cut], Trust::Authenticated);
        assert!(whole.0.starts_with(&part), "{bytes:?} cut at {cut}");
        assert!(
            error.is_none() || error == whole.1,
            "{bytes:?} cut at {cut}"
        );
    }
}

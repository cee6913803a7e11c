//! A client that speaks the protocol byte by byte, to send what no driver sends and to see what drivers hide.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A message of the server: its tag and its body.
pub struct Message {
    pub tag: char,
    pub body: Vec<u8>,
}

/// A connection.
pub struct Raw {
    stream: TcpStream,
    /// What a cancel request needs.
    pub pid: i32,
    pub secret: i32,
}

impl Raw {
    /// A connection on which nothing was said yet.
    pub fn open(port: u16) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        Raw { stream, pid: 0, secret: 0 }
    }

    /// A connection that has been greeted.
    pub fn connect(port: u16) -> Raw {
        let mut raw = Raw::open(port);
        raw.startup(&[("user", "ann"), ("database", "millstream")]);
        let messages = raw.until_ready();
        let key = messages.iter().find(|m| m.tag == 'K').expect("BackendKeyData");
        raw.pid = i32::from_be_bytes(key.body[..4].try_into().unwrap());
        raw.secret = i32::from_be_bytes(key.body[4..8].try_into().unwrap());
        raw
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a startup packet.
    pub fn startup(&mut self, parameters: &[(&str, &str)]) {
        let mut body = (3u32 << 16).to_be_bytes().to_vec();
        for (name, value) in parameters {
            body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        body.push(0);
        self.send(&(body.len() as u32 + 4).to_be_bytes());
        self.send(&body);
    }

    /// Asks, over a connection of its own, to cancel what this one runs.
    pub fn cancel(&self, port: u16) {
        cancel(port, self.pid, self.secret);
    }

    /// Asks again and again to cancel what this one runs, from before it begins to its end; all messages up to ReadyForQuery.
    pub fn until_cancelled(&mut self, port: u16) -> Vec<Message> {
        let (pid, secret, ended) = (self.pid, self.secret, AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::SeqCst) {
                    cancel(port, pid, secret);
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            let messages = self.until_ready();
            ended.store(true, Ordering::SeqCst);
            messages
        })
    }

    /// The next message; `None` at the end of the connection.
    pub fn read(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).ok()?;
        Some(Message { tag: head[0] as char, body })
    }

    /// One byte outside any message.
    pub fn read_byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// Whether the server has closed the connection.
    pub fn is_at_end(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }

    /// All messages up to ReadyForQuery.
    pub fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.read().expect("the connection goes on");
            let ready = message.tag == 'Z';
            messages.push(message);
            if ready {
                return messages;
            }
        }
    }

    /// Sends a COPY FROM STDIN and its data in these pieces; the answers.
    pub fn copy_in(&mut self, sql: &str, pieces: &[&str]) -> Vec<String> {
        let data = pieces.iter().flat_map(|piece| message('d', piece.as_bytes()));
        let query = message('Q', &[sql.as_bytes(), b"\0"].concat());
        self.send(&query.into_iter().chain(data).chain(message('c', b"")).collect::<Vec<_>>());
        self.until_ready().iter().map(Message::show).collect()
    }

    /// What a text of statements is answered, each message as a word: see [`Message::show`].
    pub fn query(&mut self, sql: &str) -> Vec<String> {
        self.send(&message('Q', &[sql.as_bytes(), b"\0"].concat()));
        self.until_ready().iter().map(Message::show).collect()
    }

    /// Goes away without a word.
    pub fn vanish(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Returns when the server has seen the request.
fn cancel(port: u16, pid: i32, secret: i32) {
    let mut packet = 16u32.to_be_bytes().to_vec();
    packet.extend(80_877_102u32.to_be_bytes());
    packet.extend(pid.to_be_bytes());
    packet.extend(secret.to_be_bytes());
    let mut other = Raw::open(port);
    other.send(&packet);
    assert!(other.is_at_end());
}

/// A message of a client.
pub fn message(tag: char, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag as u8];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Parse, Bind, Describe and Execute of a statement without parameters, through unnamed ones.
pub fn pipeline(sql: &str, rows_max: u32) -> Vec<u8> {
    let mut bytes = message('P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
    bytes.extend(message('B', b"\0\0\0\0\0\0\0\0"));
    bytes.extend(message('D', b"P\0"));
    bytes.extend(message('E', &[&b"\0"[..], &rows_max.to_be_bytes()].concat()));
    bytes
}

impl Message {
    /// `C:SELECT 1`, `D:1|NULL`, `d:...`, `E:42601 ...`, `Z:I`, and for all others the tag alone.
    pub fn show(&self) -> String {
        match self.tag {
            'C' => format!("C:{}", text(&self.body)),
            'd' => format!("d:{}", text(&self.body)),
            'D' => format!("D:{}", self.values().join("|")),
            'E' | 'N' => format!("{}:{} {}", self.tag, self.field('C'), self.field('M')),
            'S' => format!("S:{}", text(&self.body).replace('\0', "=")),
            'T' => format!("T:{}", self.columns().join("|")),
            'Z' => format!("Z:{}", self.body[0] as char),
            tag => tag.to_string(),
        }
    }

    /// A field of an error or a notice; empty when it is missing.
    pub fn field(&self, code: char) -> String {
        let mut fields = self.body.split(|byte| *byte == 0);
        let found = fields.find(|field| field.first() == Some(&(code as u8)));
        found.map_or_else(String::new, |field| text(&field[1..]))
    }

    fn values(&self) -> Vec<String> {
        let mut rest = &self.body[2..];
        let mut values = Vec::new();
        while !rest.is_empty() {
            let length = i32::from_be_bytes(rest[..4].try_into().unwrap());
            rest = &rest[4..];
            match usize::try_from(length) {
                Ok(length) => {
                    values.push(text(&rest[..length]));
                    rest = &rest[length..];
                }
                Err(_) => values.push("NULL".to_string()),
            }
        }
        values
    }

    fn columns(&self) -> Vec<String> {
        self.column_types().into_iter().map(|(name, _)| name).collect()
    }

    /// The names of a RowDescription, with the OIDs of their types.
    pub fn column_types(&self) -> Vec<(String, u32)> {
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == 0).unwrap();
            let ty = u32::from_be_bytes(rest[end + 7..end + 11].try_into().unwrap());
            columns.push((text(&rest[..end]), ty));
            rest = &rest[end + 19..];
        }
        columns
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string()
}

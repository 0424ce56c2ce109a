//! A server that speaks the protocol of PostgreSQL (version 3) and answers questions with whatever a test wants.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// What it answers to every question but the first of a connection, which prepares the session.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// One row of one column.
    Text(Vec<u8>),
    /// Two answers by turns: one for each question.
    InTurn(Vec<String>),
    /// A row of so many bytes.
    Long(usize),
    /// Rows without end.
    Endless,
    /// Notices without end.
    Notices,
    /// The end of the connection in the middle of a row.
    Half,
    /// A message that says that it is 2 GB long.
    TooLong,
    Silence,
    /// Words that are no message of the protocol.
    Babble,
    /// Begins a COPY: the code of the message.
    Copy(u8),
    /// An error of this text.
    Error(String),
    /// As [`Answer::Error`], before anybody is let in.
    Refusal(String),
}

pub(crate) struct FakePublisher {
    port: u16,
}

impl FakePublisher {
    /// Serves until the process ends.
    pub(crate) fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                // An error is the end of the conversation: whoever asks has gone.
                thread::spawn(move || {
                    let _ = serve(client, &answer);
                });
            }
        });
        Self { port }
    }

    pub(crate) fn conninfo(&self) -> String {
        format!(
            "host=127.0.0.1 port={} user=somebody dbname=somewhere password=open-sesame",
            self.port
        )
    }
}

/// A message: its code, its length, its body.
fn message(code: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short enough");
    let mut all = vec![code];
    all.extend(length.to_be_bytes());
    all.extend(body);
    all
}

fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    let body = format!("S{severity}\0V{severity}\0C{code}\0M{text}\0D{text}\0H{text}\0W{text}\0\0");
    message(b'E', body.as_bytes())
}

/// DataRow of one column.
fn row(value: &[u8]) -> Vec<u8> {
    let mut body = 1u16.to_be_bytes().to_vec();
    body.extend(
        u32::try_from(value.len())
            .expect("short enough")
            .to_be_bytes(),
    );
    body.extend(value);
    message(b'D', &body)
}

/// RowDescription of one column of type text.
fn description() -> Vec<u8> {
    let mut body = 1u16.to_be_bytes().to_vec();
    body.extend(b"answer\0");
    body.extend([
        0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0,
    ]);
    message(b'T', &body)
}

fn read_exactly(client: &mut TcpStream, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_length(client: &mut TcpStream) -> io::Result<usize> {
    let bytes = read_exactly(client, 4)?;
    let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    Ok(length.saturating_sub(4))
}

fn serve(mut client: TcpStream, answer: &Answer) -> io::Result<()> {
    const ASKS_FOR_ENCRYPTION: [[u8; 4]; 2] =
        [80_877_103u32.to_be_bytes(), 80_877_104u32.to_be_bytes()];
    loop {
        let length = read_length(&mut client)?;
        let startup = read_exactly(&mut client, length)?;
        if ASKS_FOR_ENCRYPTION
            .iter()
            .any(|one| startup.starts_with(one))
        {
            client.write_all(b"N")?;
            continue;
        }
        // Not for apply workers.
        if startup.windows(11).any(|part| part == b"replication") {
            return client.write_all(&error("FATAL", "57P03", "not now"));
        }
        break;
    }
    if let Answer::Refusal(text) = answer {
        return client.write_all(&error("FATAL", "28000", text));
    }
    client.write_all(&message(b'R', &[0; 4]))?;
    for setting in [
        "server_version\x0015.1\0",
        "client_encoding\0UTF8\0",
        "standard_conforming_strings\0on\0",
    ] {
        client.write_all(&message(b'S', setting.as_bytes()))?;
    }
    client.write_all(&message(b'K', &[0, 0, 0, 7, 0, 0, 0, 7]))?;
    client.write_all(&message(b'Z', b"I"))?;
    let mut questions = 0;
    loop {
        let code = read_exactly(&mut client, 1)?[0];
        let length = read_length(&mut client)?;
        read_exactly(&mut client, length)?;
        match code {
            b'X' => return Ok(()),
            b'Q' | b'S' => {
                if questions == 0 {
                    whole(&mut client, b"prepared")?;
                } else {
                    reply(&mut client, answer, questions)?;
                }
                questions += 1;
            }
            _ => {}
        }
    }
}

fn begin(client: &mut TcpStream) -> io::Result<()> {
    client.write_all(&message(b'1', b""))?;
    client.write_all(&message(b'2', b""))?;
    client.write_all(&description())
}

fn whole(client: &mut TcpStream, value: &[u8]) -> io::Result<()> {
    begin(client)?;
    client.write_all(&row(value))?;
    client.write_all(&message(b'C', b"SELECT 1\0"))?;
    client.write_all(&message(b'Z', b"I"))
}

fn reply(client: &mut TcpStream, answer: &Answer, question: usize) -> io::Result<()> {
    match answer {
        Answer::Text(value) => whole(client, value),
        Answer::InTurn(values) => whole(client, values[(question - 1) % values.len()].as_bytes()),
        Answer::Long(length) => whole(client, &vec![b'x'; *length]),
        Answer::Endless => {
            begin(client)?;
            let rows = row(&[b'x'; 1000]).repeat(64);
            loop {
                client.write_all(&rows)?;
            }
        }
        Answer::Notices => {
            let body = "SNOTICE\0VNOTICE\0C00000\0Mplanted by a notice\0\0";
            let notices = message(b'N', body.as_bytes()).repeat(64);
            loop {
                client.write_all(&notices)?;
            }
        }
        Answer::Half => {
            begin(client)?;
            let all = row(b"{\"now\": 1}");
            client.write_all(&all[..all.len() / 2])?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Answer::TooLong => {
            begin(client)?;
            client.write_all(b"D\x7f\xff\xff\xff\x00\x01")
        }
        Answer::Silence => Ok(()),
        Answer::Babble => {
            client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>\0\0\0\0</html>")
        }
        Answer::Copy(code) => client.write_all(&message(*code, &[0, 0, 0])),
        Answer::Error(text) | Answer::Refusal(text) => {
            client.write_all(&error("ERROR", "XX000", text))?;
            client.write_all(&message(b'Z', b"I"))
        }
    }
}

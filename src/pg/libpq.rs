//! Connections to other servers through libpq, by which the subscription itself connects: a connection string means
//! exactly the same. Nothing in here waits, but for the system's resolver ([`super::resolver`]); the caller waits for the
//! socket.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::net::{IpAddr, TcpStream};
use std::os::fd::FromRawFd;
use std::ptr::{self, NonNull};

use pq_sys::{
    ConnStatusType, ExecStatusType, PGVerbosity, PGconn, PGresult, PostgresPollingStatusType,
};

/// What the socket has to be before a connection can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    Readable,
    Writable,
}

/// Set over the connection string: who is asking, and in which encoding the answer comes.
const OWN_KEYWORDS: [(&CStr, &CStr); 2] = [
    (c"application_name", c"replwarden"),
    (c"client_encoding", c"UTF8"),
];

/// Between which addresses a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    /// Of this server, as its own network knows it.
    pub(crate) local: IpAddr,
    pub(crate) remote: Option<IpAddr>,
    /// The other machine has taken the connection.
    pub(crate) is_established: bool,
}

/// What a server says besides its words when it turns a connection away: the same in every language.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) sqlstate: String,
    /// The function of its source code.
    pub(crate) routine: String,
}

/// A connection, closed when it is dropped. Errors are libpq's words.
pub(crate) struct Connection {
    connection: NonNull<PGconn>,
    /// What has come of the answer that is being received: its end comes later, perhaps.
    answer: Option<Result<Option<String>, String>>,
    /// Bytes that have come since it was begun, or a statement was sent; about.
    received: u64,
    /// The other side does not do what it should: nothing more is to be sent.
    is_spoilt: bool,
}

/// A catalog of 10,000 tables with all of their columns takes a tenth of it.
const LONGEST_ANSWER: u64 = 256 * 1024 * 1024;
/// libpq keeps the memory that the longest message took.
const LONGEST_TO_KEEP: u64 = 4 * 1024 * 1024;

impl Connection {
    /// Begins to connect, with some keywords set over the connection string. The first thing to wait for is a writable socket.
    pub(crate) fn start(conninfo: &CStr, over: &[(&CStr, &CStr)]) -> Result<Self, String> {
        let mut keywords = vec![c"dbname".as_ptr()];
        let mut values = vec![conninfo.as_ptr()];
        for (keyword, value) in OWN_KEYWORDS.iter().chain(over) {
            keywords.push(keyword.as_ptr());
            values.push(value.as_ptr());
        }
        keywords.push(ptr::null());
        values.push(ptr::null());
        // SAFETY: two arrays of the same length, ended by NULL; libpq copies the strings. The first value is taken for a
        // connection string (expand_dbname), and later ones override it.
        let connection =
            unsafe { pq_sys::PQconnectStartParams(keywords.as_ptr(), values.as_ptr(), 1) };
        let connection = Self {
            connection: NonNull::new(connection).ok_or("out of memory")?,
            answer: None,
            received: 0,
            is_spoilt: false,
        };
        // SAFETY: a connection.
        let status = unsafe {
            // Else they would be written to the server log, as they come.
            pq_sys::PQsetNoticeReceiver(connection.as_ptr(), Some(ignore_notice), ptr::null_mut());
            // For [`Connection::refusal`].
            pq_sys::PQsetErrorVerbosity(connection.as_ptr(), PGVerbosity::PQERRORS_VERBOSE);
            pq_sys::PQstatus(connection.as_ptr())
        };
        if status == ConnStatusType::CONNECTION_BAD {
            return Err(connection.error());
        }
        Ok(connection)
    }

    fn as_ptr(&self) -> *mut PGconn {
        self.connection.as_ptr()
    }

    /// The file descriptor to wait for; another one may be in use after each step of connecting.
    pub(crate) fn socket(&self) -> i32 {
        // SAFETY: a connection.
        unsafe { pq_sys::PQsocket(self.as_ptr()) }
    }

    /// Goes on connecting, as the socket is ready. `None`: connected.
    pub(crate) fn go_on_connecting(&mut self) -> Result<Option<Interest>, String> {
        self.count_received()?;
        // SAFETY: a connection that was begun and whose socket is ready.
        match unsafe { pq_sys::PQconnectPoll(self.as_ptr()) } {
            PostgresPollingStatusType::PGRES_POLLING_READING => Ok(Some(Interest::Readable)),
            PostgresPollingStatusType::PGRES_POLLING_WRITING => Ok(Some(Interest::Writable)),
            PostgresPollingStatusType::PGRES_POLLING_OK => {
                // SAFETY: a connection; from now on sending does not wait either.
                unsafe {
                    pq_sys::PQsetErrorVerbosity(self.as_ptr(), PGVerbosity::PQERRORS_DEFAULT);
                    pq_sys::PQsetnonblocking(self.as_ptr(), 1);
                }
                Ok(None)
            }
            _ => Err(self.error()),
        }
    }

    /// The other server asked for a password, and the one of the connection string was given.
    pub(crate) fn used_password(&self) -> bool {
        // SAFETY: a connection.
        unsafe { pq_sys::PQconnectionUsedPassword(self.as_ptr()) != 0 }
    }

    /// Sends one statement with text parameters, and says what to wait for.
    pub(crate) fn send(&mut self, sql: &CStr, parameters: &[CString]) -> Result<Interest, String> {
        (self.answer, self.received) = (None, 0);
        let values: Vec<*const c_char> = parameters.iter().map(|one| one.as_ptr()).collect();
        let none = ptr::null();
        // SAFETY: as many values as are counted, which libpq copies; without types, lengths and formats all are text.
        let sent = unsafe {
            let number = i32::try_from(values.len()).unwrap_or(i32::MAX);
            let values = values.as_ptr();
            pq_sys::PQsendQueryParams(
                self.as_ptr(),
                sql.as_ptr(),
                number,
                ptr::null(),
                values,
                none,
                ptr::null(),
                0,
            )
        };
        // SAFETY: a connection that has just been sent a statement. Of several rows only one is in memory at a time.
        if sent == 0 || unsafe { pq_sys::PQsetSingleRowMode(self.as_ptr()) } == 0 {
            return Err(self.error());
        }
        Ok(if self.flush()? {
            Interest::Writable
        } else {
            Interest::Readable
        })
    }

    /// Whether something is left to be sent.
    fn flush(&mut self) -> Result<bool, String> {
        // SAFETY: a connection.
        match unsafe { pq_sys::PQflush(self.as_ptr()) } {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error()),
        }
    }

    /// Takes in what has come. `Ok(Err(…))` says what to wait for; `Ok(Ok(…))` is the first column of the answer's first
    /// row.
    pub(crate) fn receive(&mut self) -> Result<Result<Option<String>, Interest>, String> {
        if self.flush()? {
            return Ok(Err(Interest::Writable));
        }
        self.count_received()?;
        // SAFETY: a connection.
        if unsafe { pq_sys::PQconsumeInput(self.as_ptr()) } == 0 {
            return Err(self.error());
        }
        loop {
            // SAFETY: a connection; PQgetResult would wait only while it is busy.
            let result = unsafe {
                if pq_sys::PQisBusy(self.as_ptr()) != 0 {
                    return Ok(Err(Interest::Readable));
                }
                pq_sys::PQgetResult(self.as_ptr())
            };
            let Some(result) = NonNull::new(result).map(Answer) else {
                return self.answer.take().unwrap_or(Ok(None)).map(Ok);
            };
            match (result.first(), &self.answer) {
                // It would come again and again.
                (Content::Copy, _) => {
                    self.is_spoilt = true;
                    return Err("the publisher answered with a COPY".to_owned());
                }
                (_, Some(Err(_))) | (Content::Rest, Some(Ok(_))) => {}
                (Content::Rest, None) => self.answer = Some(Ok(None)),
                (Content::Row(value), None) => self.answer = Some(Ok(value)),
                (Content::Row(_), Some(Ok(_))) => {}
                (Content::Error(message), _) => self.answer = Some(Err(message)),
            }
        }
    }

    /// An error when too much has come.
    fn count_received(&mut self) -> Result<(), String> {
        let mut waiting: libc::c_int = 0;
        // SAFETY: writes a number; for what is no socket it fails, and the number stays 0.
        unsafe { libc::ioctl(self.socket(), libc::FIONREAD, &raw mut waiting) };
        self.received += u64::try_from(waiting).unwrap_or(0);
        if self.received > LONGEST_ANSWER {
            self.is_spoilt = true;
            return Err(format!(
                "the publisher's answer is longer than {} MB",
                LONGEST_ANSWER / 1024 / 1024
            ));
        }
        Ok(())
    }

    /// The connection is good, whatever was answered.
    pub(crate) fn is_alive(&self) -> bool {
        // SAFETY: a connection.
        let status = unsafe { pq_sys::PQstatus(self.as_ptr()) };
        status == ConnStatusType::CONNECTION_OK && !self.is_spoilt
    }

    /// It has not taken so much memory that another one is better for the next question.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        self.received <= LONGEST_TO_KEEP
    }

    /// What goes on between both sides is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        // SAFETY: a connection.
        unsafe { pq_sys::PQsslInUse(self.as_ptr()) != 0 }
    }

    /// `None`: it goes through no network, or there is no socket (any more).
    pub(crate) fn route(&self) -> Option<Route> {
        let socket = self.socket();
        if socket < 0 {
            return None;
        }
        // SAFETY: an open socket, which is not closed here.
        let stream = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(socket) });
        // SAFETY: a connection; the address is a string that lives as long.
        let remote = unsafe { text(pq_sys::PQhostaddr(self.as_ptr())) };
        Some(Route {
            local: stream.local_addr().ok()?.ip(),
            remote: remote.parse().ok(),
            is_established: stream.peer_addr().is_ok(),
        })
    }

    /// What the server has said that turned the connection away; `None`: none has.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        untangled(&self.words()).1
    }

    /// libpq's message, in one line.
    fn error(&self) -> String {
        one_line(&untangled(&self.words()).0)
    }

    fn words(&self) -> String {
        // SAFETY: a connection; the message is a string that lives as long.
        unsafe { text(pq_sys::PQerrorMessage(self.as_ptr())) }
    }
}

/// A message with PQERRORS_VERBOSE (pqBuildErrorMessage3 of fe-protocol3.c) as it is without, and what it has more. With several
/// hosts there are several messages, and the last one counts.
fn untangled(message: &str) -> (String, Option<Refusal>) {
    let mut refusal: Option<Refusal> = None;
    let mut lines = Vec::new();
    for line in message.lines() {
        if let (Some(refusal), Some(routine)) = (&mut refusal, routine(line)) {
            refusal.routine = routine.to_owned();
            continue;
        }
        match line.split_once(":  ") {
            Some((before, rest)) => match rest.split_once(": ") {
                Some((sqlstate, words)) if is_sqlstate(sqlstate) => {
                    refusal = Some(Refusal {
                        sqlstate: sqlstate.to_owned(),
                        routine: String::new(),
                    });
                    lines.push(format!("{before}:  {words}"));
                }
                _ => lines.push(line.to_owned()),
            },
            None => lines.push(line.to_owned()),
        }
    }
    (lines.join("\n"), refusal)
}

/// Of "LOCATION:  auth_failed, auth.c:331"; the first word is translated.
fn routine(line: &str) -> Option<&str> {
    let (_, place) = line.split_once(":  ")?;
    let (routine, file) = place.split_once(", ")?;
    let (file, number) = file.rsplit_once(':')?;
    let is_place = file.ends_with(".c") && number.bytes().all(|one| one.is_ascii_digit());
    is_place.then_some(routine)
}

fn is_sqlstate(text: &str) -> bool {
    let is_part = |one: u8| one.is_ascii_digit() || one.is_ascii_uppercase();
    text.len() == 5 && text.bytes().all(is_part)
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: a connection, used no more.
        unsafe { pq_sys::PQfinish(self.as_ptr()) };
    }
}

struct Answer(NonNull<PGresult>);

/// What a result of libpq brings.
enum Content {
    /// Its first column.
    Row(Option<String>),
    /// The end of the rows, or of a statement that has none.
    Rest,
    Copy,
    Error(String),
}

impl Answer {
    fn first(&self) -> Content {
        let result = self.0.as_ptr();
        // SAFETY: a result; a column is asked for only where there is one, and copied.
        unsafe {
            match pq_sys::PQresultStatus(result) {
                ExecStatusType::PGRES_SINGLE_TUPLE => {
                    let is_null =
                        pq_sys::PQnfields(result) == 0 || pq_sys::PQgetisnull(result, 0, 0) != 0;
                    Content::Row((!is_null).then(|| text(pq_sys::PQgetvalue(result, 0, 0))))
                }
                ExecStatusType::PGRES_TUPLES_OK | ExecStatusType::PGRES_COMMAND_OK => Content::Rest,
                ExecStatusType::PGRES_COPY_IN
                | ExecStatusType::PGRES_COPY_OUT
                | ExecStatusType::PGRES_COPY_BOTH => Content::Copy,
                _ => Content::Error(one_line(&text(pq_sys::PQresultErrorMessage(result)))),
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: a result, used no more.
        unsafe { pq_sys::PQclear(self.0.as_ptr()) };
    }
}

extern "C" fn ignore_notice(_: *mut c_void, _: *const PGresult) {}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ").trim_end().to_owned()
}

/// # Safety
/// A C string.
unsafe fn text(of: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(of) }.to_string_lossy().into_owned()
}

/// One part of a connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyword {
    pub(crate) name: String,
    pub(crate) value: String,
    /// libpq asks that it be hidden where it is entered (`dispchar`).
    pub(crate) is_secret: bool,
}

/// The parts that a connection string sets, in whichever form it is. `None`: libpq cannot read it.
pub(crate) fn parse(conninfo: &CStr) -> Option<Vec<Keyword>> {
    let mut message = ptr::null_mut();
    // SAFETY: a string; the options are an array that ends where the keyword is NULL, freed after it was copied. The
    // message may quote a password, so it is freed unread.
    unsafe {
        let options = pq_sys::PQconninfoParse(conninfo.as_ptr(), &raw mut message);
        if !message.is_null() {
            pq_sys::PQfreemem(message.cast());
        }
        if options.is_null() {
            return None;
        }
        let mut keywords = Vec::new();
        let mut option = options;
        while !(*option).keyword.is_null() {
            if !(*option).val.is_null() {
                keywords.push(Keyword {
                    name: text((*option).keyword),
                    value: text((*option).val),
                    is_secret: text((*option).dispchar).contains('*'),
                });
            }
            option = option.add(1);
        }
        pq_sys::PQconninfoFree(options);
        Some(keywords)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_in_a_verbose_message_is_taken_out() {
        let message = "connection to server at \"10.0.0.1\", port 5432 failed: FATAL:  28000: kein Eintrag\nHINT:  keiner\nORT:  ClientAuthentication, auth.c:543\n";
        let (words, refusal) = untangled(message);
        assert_eq!(
            words,
            "connection to server at \"10.0.0.1\", port 5432 failed: FATAL:  kein Eintrag\nHINT:  keiner"
        );
        let refusal = refusal.unwrap_or_default();
        assert_eq!(
            (refusal.sqlstate.as_str(), refusal.routine.as_str()),
            ("28000", "ClientAuthentication")
        );
    }

    #[test]
    fn libpqs_own_messages_stay_as_they_are() {
        for message in [
            "connection to server at \"127.0.0.1\", port 1 failed: Connection refused\n\tIs the server running?",
            "FATAL:  password authentication failed",
        ] {
            assert_eq!(untangled(message), (message.to_owned(), None));
        }
    }
}

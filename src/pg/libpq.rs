//! Connections to other servers through libpq, by which the subscription itself connects: a connection string means
//! exactly the same. Nothing in here waits, but for the system's resolver ([`super::resolver`]); the caller waits for the
//! socket.

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};

use pq_sys::{ConnStatusType, ExecStatusType, PGconn, PGresult, PostgresPollingStatusType};

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

/// A connection, closed when it is dropped. Errors are libpq's words.
pub(crate) struct Connection {
    connection: NonNull<PGconn>,
    /// What has come of the answer that is being received: its end comes later, perhaps.
    answer: Option<Result<Option<String>, String>>,
}

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
        };
        // SAFETY: a connection.
        let status = unsafe { pq_sys::PQstatus(connection.as_ptr()) };
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
        // SAFETY: a connection that was begun and whose socket is ready.
        match unsafe { pq_sys::PQconnectPoll(self.as_ptr()) } {
            PostgresPollingStatusType::PGRES_POLLING_READING => Ok(Some(Interest::Readable)),
            PostgresPollingStatusType::PGRES_POLLING_WRITING => Ok(Some(Interest::Writable)),
            PostgresPollingStatusType::PGRES_POLLING_OK => {
                // SAFETY: a connection; from now on sending does not wait either.
                unsafe { pq_sys::PQsetnonblocking(self.as_ptr(), 1) };
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
        self.answer = None;
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
        if sent == 0 {
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
            if !matches!(self.answer, Some(Err(_))) {
                self.answer = Some(result.first());
            }
        }
    }

    /// The connection is good, whatever was answered.
    pub(crate) fn is_alive(&self) -> bool {
        // SAFETY: a connection.
        unsafe { pq_sys::PQstatus(self.as_ptr()) == ConnStatusType::CONNECTION_OK }
    }

    /// libpq's message, in one line.
    fn error(&self) -> String {
        // SAFETY: a connection; the message is a string that lives as long.
        let text = unsafe { CStr::from_ptr(pq_sys::PQerrorMessage(self.as_ptr())) };
        one_line(&text.to_string_lossy())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: a connection, used no more.
        unsafe { pq_sys::PQfinish(self.as_ptr()) };
    }
}

struct Answer(NonNull<PGresult>);

impl Answer {
    fn first(&self) -> Result<Option<String>, String> {
        let result = self.0.as_ptr();
        // SAFETY: a result; rows and columns are asked for only where there are some, and copied.
        unsafe {
            match pq_sys::PQresultStatus(result) {
                ExecStatusType::PGRES_TUPLES_OK => {
                    let is_null = pq_sys::PQntuples(result) == 0
                        || pq_sys::PQnfields(result) == 0
                        || pq_sys::PQgetisnull(result, 0, 0) != 0;
                    Ok((!is_null).then(|| text(pq_sys::PQgetvalue(result, 0, 0))))
                }
                ExecStatusType::PGRES_COMMAND_OK => Ok(None),
                _ => Err(one_line(&text(pq_sys::PQresultErrorMessage(result)))),
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

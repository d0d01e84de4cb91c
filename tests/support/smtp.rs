//! A mail server that holds real SMTP conversations and misbehaves as a test tells it to.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// What the server does instead of what it should.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Gives this reply.
    Say(&'static str),
    /// Gives this reply and closes.
    SayAndClose(&'static str),
    /// Closes without a word.
    Close,
    /// Says nothing any more.
    Silence,
}

/// How a server behaves.
#[derive(Default)]
pub(crate) struct Script {
    /// For commands that begin so (`RCPT TO:<ann@`), what to do instead, each for the first that
    /// fits. `CONNECT` is the greeting and `.` the end of a mail.
    pub(crate) acts: Vec<(&'static str, Act)>,
    /// A certificate for this name.
    pub(crate) certificate: Option<&'static str>,
    /// TLS from the first byte, instead of by STARTTLS.
    pub(crate) implicit: bool,
    /// The user and the password, if it wants a login.
    pub(crate) login: Option<(&'static str, &'static str)>,
    /// Whether it takes addresses that are not ASCII.
    pub(crate) utf8: bool,
}

/// A mail that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) connection: usize,
    pub(crate) encrypted: bool,
    pub(crate) to: String,
    /// As it came over the line, dots still stuffed.
    pub(crate) raw: String,
}

impl Taken {
    /// The message, with the dots that the sender doubled taken away.
    pub(crate) fn message(&self) -> String {
        self.raw
            .split("\r\n")
            .map(|l| l.strip_prefix('.').unwrap_or(l))
            .collect::<Vec<_>>()
            .join("\r\n")
    }
}

#[derive(Default)]
struct Seen {
    taken: Vec<Taken>,
    commands: Vec<String>,
    connections: usize,
    open: usize,
    open_max: usize,
}

struct State {
    acts: Mutex<VecDeque<(&'static str, Act)>>,
    tls: Option<TlsAcceptor>,
    implicit: bool,
    login: Option<(&'static str, &'static str)>,
    utf8: bool,
    seen: Mutex<Seen>,
}

/// A running server; it stops when it is dropped.
pub(crate) struct SmtpServer {
    pub(crate) port: u16,
    /// The PEM of its certificate.
    pub(crate) pem: Option<String>,
    state: Arc<State>,
    _task: AbortOnDropHandle<()>,
}

impl SmtpServer {
    pub(crate) async fn start(script: Script) -> Self {
        let (pem, tls) = match script.certificate {
            None => (None, None),
            Some(name) => {
                let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
                let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let config = rustls::ServerConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_no_client_auth()
                    .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
                    .unwrap();
                (Some(made.cert.pem()), Some(TlsAcceptor::from(Arc::new(config))))
            }
        };
        let state = Arc::new(State {
            acts: Mutex::new(script.acts.into()),
            tls,
            implicit: script.implicit,
            login: script.login,
            utf8: script.utf8,
            seen: Mutex::default(),
        });
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&state);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut conversations = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                conversations.spawn(async move {
                    let number = {
                        let mut seen = state.seen.lock().unwrap();
                        (seen.connections, seen.open) = (seen.connections + 1, seen.open + 1);
                        seen.open_max = seen.open_max.max(seen.open);
                        seen.connections
                    };
                    // A client that hangs up ends its conversation, not the test.
                    let _ = serve(&state, stream, number).await;
                    state.seen.lock().unwrap().open -= 1;
                });
            }
        }));
        Self { port, pem, state, _task: task }
    }

    pub(crate) fn url(&self) -> String {
        format!("smtp://localhost:{}", self.port)
    }

    /// Writes its certificate where a client can read it.
    pub(crate) fn root_ca_file(&self, dir: &tempfile::TempDir) -> PathBuf {
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, self.pem.as_ref().unwrap()).unwrap();
        path
    }

    /// From now on does `act` at the next command that begins with `start`.
    pub(crate) fn act(&self, start: &'static str, act: Act) {
        self.state.acts.lock().unwrap().push_back((start, act));
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.state.seen.lock().unwrap().taken.clone()
    }

    /// Every command line so far.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.state.seen.lock().unwrap().commands.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.seen.lock().unwrap().connections
    }

    /// The most connections that were open at once.
    pub(crate) fn open_max(&self) -> usize {
        self.state.seen.lock().unwrap().open_max
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Conversation<'a> {
    state: &'a State,
    stream: BufReader<Box<dyn Stream>>,
    encrypted: bool,
}

impl Conversation<'_> {
    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn say(&mut self, reply: &str) -> io::Result<()> {
        self.stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        self.stream.flush().await
    }

    /// Replies to `command`, unless the script says otherwise; whether it was the usual reply.
    async fn reply(&mut self, command: &str, usual: &str) -> io::Result<bool> {
        let act = {
            let mut acts = self.state.acts.lock().unwrap();
            let place = acts.iter().position(|(start, _)| command.starts_with(start));
            place.and_then(|place| acts.remove(place)).map(|(_, act)| act)
        };
        match act {
            None => self.say(usual).await.map(|()| true),
            Some(Act::Say(reply)) => self.say(reply).await.map(|()| false),
            Some(Act::SayAndClose(reply)) => {
                self.say(reply).await?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Some(Act::Close) => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Act::Silence) => std::future::pending().await,
        }
    }
}

async fn serve(state: &State, stream: TcpStream, number: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match &state.tls {
        Some(tls) if state.implicit => Box::new(tls.accept(stream).await?),
        _ => Box::new(stream),
    };
    let mut talk =
        Conversation { state, stream: BufReader::new(stream), encrypted: state.implicit };
    let mut logged_in = state.login.is_none();
    let mut to = None;
    if !talk.reply("CONNECT", "220 test ESMTP").await? {
        return Ok(());
    }
    loop {
        let command = talk.line().await?;
        state.seen.lock().unwrap().commands.push(command.clone());
        let verb = command.split([' ', ':']).next().unwrap_or_default();
        match verb {
            "EHLO" => {
                let mut lines = vec!["test"];
                if state.tls.is_some() && !talk.encrypted {
                    lines.push("STARTTLS");
                }
                if state.login.is_some() {
                    lines.push("AUTH PLAIN LOGIN");
                }
                if state.utf8 {
                    lines.push("SMTPUTF8");
                }
                let usual = lines.iter().map(|l| format!("250-{l}\r\n")).collect::<String>();
                talk.reply(&command, &format!("{usual}250 HELP")).await?;
            }
            "STARTTLS" => {
                if let Some(tls) = &state.tls
                    && talk.reply(&command, "220 go on").await?
                {
                    let plain = talk.stream.into_inner();
                    let stream: Box<dyn Stream> = Box::new(tls.accept(plain).await?);
                    talk = Conversation { state, stream: BufReader::new(stream), encrypted: true };
                }
            }
            "AUTH" => {
                // base64 of NUL user NUL password, without a decoder: compare what would be sent.
                let (user, password) = state.login.unwrap_or_default();
                let expected = base64(format!("\0{user}\0{password}").as_bytes());
                if command == format!("AUTH PLAIN {expected}") {
                    logged_in = talk.reply(&command, "235 welcome").await?;
                } else {
                    talk.say("535 5.7.8 who are you?").await?;
                }
            }
            "MAIL" if !logged_in => talk.say("530 5.7.0 log in first").await?,
            "RCPT" => {
                let address = command.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                if talk.reply(&command, "250 ok").await? {
                    to = Some(address);
                }
            }
            "DATA" => {
                if !talk.reply(&command, "354 go on").await? {
                    continue;
                }
                let mut raw = String::new();
                loop {
                    let line = talk.line().await?;
                    if line == "." {
                        break;
                    }
                    raw.push_str(&line);
                    raw.push_str("\r\n");
                }
                if talk.reply(".", "250 taken").await? {
                    let (encrypted, to) = (talk.encrypted, to.take().unwrap_or_default());
                    let mail = Taken { connection: number, encrypted, to, raw };
                    state.seen.lock().unwrap().taken.push(mail);
                }
            }
            "QUIT" => {
                talk.reply(&command, "221 bye").await?;
                return Ok(());
            }
            _ => {
                talk.reply(&command, "250 ok").await?;
            }
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = usize::try_from(group >> (18 - 6 * place) & 63).unwrap();
            text.push(if place <= chunk.len() { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    text
}

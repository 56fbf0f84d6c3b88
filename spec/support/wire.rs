//! A wire to a server, which can be cut.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a wire does to each connection that is made over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It closes it at once.
    Refused,
    /// It is cut when so many bytes went to the server.
    RequestCut(usize),
    /// It is cut when so many bytes came back.
    AnswerCut(usize),
    /// Every request is answered by this status, and the server never hears of it.
    Status(u16),
    /// Nothing is ever answered.
    Silent,
    /// So many bytes a second pass, each way.
    Slow(usize),
    /// What is new is not in lists before it has been there for so long.
    LateLists(Duration),
}

/// A wire to a server; what it does can be changed at any time, for connections made from then on.
pub struct Wire {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    fault: Fault,
    /// For how many connections more; then the wire is whole again.
    left: usize,
    /// How many connections had the present fault.
    hits: usize,
    open: Vec<TcpStream>,
    ended: bool,
    /// When each name was first in a list, and whether it was kept out of that.
    listed: Listed,
}

type Listed = Arc<Mutex<HashMap<Vec<u8>, (Instant, bool)>>>;

impl Wire {
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            fault: Fault::None,
            left: 0,
            hits: 0,
            open: vec![],
            ended: false,
            listed: Listed::default(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut state = locked(&shared);
                if state.ended {
                    break;
                }
                let Ok(client) = client else { continue };
                let fault = if state.left > 0 { state.fault } else { Fault::None };
                state.hits += usize::from(state.left > 0);
                state.left = state.left.saturating_sub(1);
                state.open.push(client.try_clone().unwrap());
                let listed = Arc::clone(&state.listed);
                drop(state);
                thread::spawn(move || serve(client, server, fault, &listed));
            }
        });
        Self { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks the next `connections`, and everything that is open now.
    pub fn breaks(&self, fault: Fault, connections: usize) {
        let mut state = locked(&self.state);
        (state.fault, state.left, state.hits) = (fault, connections, 0);
        for stream in state.open.drain(..) {
            // Ignored: most of them have ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many names it kept out of lists for a while.
    pub fn hidden(&self) -> usize {
        let listed = Arc::clone(&locked(&self.state).listed);
        let listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.values().filter(|(_, hidden)| *hidden).count()
    }

    /// How many connections it has broken since.
    pub fn hits(&self) -> usize {
        locked(&self.state).hits
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        locked(&self.state).ended = true;
        // Wakes the thread that accepts, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

fn locked(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut client: TcpStream, server: SocketAddr, fault: Fault, listed: &Listed) {
    match fault {
        Fault::Refused => {
            let _ = client.shutdown(Shutdown::Both);
            return;
        }
        Fault::Status(status) => {
            client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let _ = io::copy(&mut client, &mut io::sink());
            let body =
                "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            let _ = write!(
                client,
                "HTTP/1.1 {status} Fault\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            return;
        }
        Fault::Silent => {
            // Until somebody cuts it.
            let _ = io::copy(&mut client, &mut io::sink());
            return;
        }
        Fault::None | Fault::RequestCut(_) | Fault::AnswerCut(_) | Fault::Slow(_) | Fault::LateLists(_) => {}
    }
    let Ok(upstream) = TcpStream::connect(server) else { return };
    let most = |wanted: Option<usize>| wanted.unwrap_or(usize::MAX);
    let up = match fault {
        Fault::RequestCut(bytes) => Some(bytes),
        _ => None,
    };
    let down = match fault {
        Fault::AnswerCut(bytes) => Some(bytes),
        _ => None,
    };
    let pace = match fault {
        Fault::Slow(bytes) => Some(bytes),
        _ => None,
    };
    let back = thread::spawn({
        let (from, to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
        let listed = Arc::clone(listed);
        move || match fault {
            Fault::LateLists(late) => relay_lists(from, to, late, &listed),
            _ => relay(from, to, most(down), pace),
        }
    });
    relay(client, upstream, most(up), pace);
    back.join().unwrap();
}

/// Passes on at most so many bytes, then cuts both ways; an end is passed on as an end.
fn relay(mut from: TcpStream, mut to: TcpStream, mut most: usize, pace: Option<usize>) {
    // A tenth of a second's worth at a time.
    let mut buffer = vec![0; pace.map_or(16 << 10, |pace| (pace / 10).max(1))];
    loop {
        if pace.is_some() {
            thread::park_timeout(Duration::from_millis(100));
        }
        let Ok(read @ 1..) = from.read(&mut buffer) else {
            let _ = to.shutdown(Shutdown::Write);
            return;
        };
        let passed = read.min(most);
        if to.write_all(&buffer[..passed]).is_err() || passed < read {
            break;
        }
        most -= passed;
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Passes on what the server answers; names in lists that are too new become names of something else, of the same length.
fn relay_lists(mut from: TcpStream, mut to: TcpStream, late: Duration, listed: &Listed) {
    const KEY: &[u8] = b"<Key>";
    let mut buffer = [0; 16 << 10];
    let mut waiting = Vec::new();
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        waiting.extend_from_slice(&buffer[..read]);
        let mut done = 0;
        while let Some(at) = find(&waiting[done..], KEY) {
            let begin = done + at + KEY.len();
            let Some(length) = find(&waiting[begin..], b"</Key>") else { break };
            let name = &mut waiting[begin..begin + length];
            let mut names = listed.lock().unwrap_or_else(PoisonError::into_inner);
            let (first, hidden) = names.entry(name.to_vec()).or_insert_with(|| (Instant::now(), false));
            if first.elapsed() < late
                && let Some(version) = find(name, b"v1/")
            {
                name[version..version + 2].copy_from_slice(b"zz");
                *hidden = true;
            }
            drop(names);
            done = begin + length;
        }
        // What may be the beginning of a name waits for the rest of it.
        let rest = &waiting[done..];
        let whole = find(rest, KEY).unwrap_or_else(|| {
            let partial = (1..KEY.len()).rev().find(|length| rest.ends_with(&KEY[..*length]));
            rest.len() - partial.unwrap_or(0)
        });
        let passes = done + whole;
        if to.write_all(&waiting[..passes]).is_err() {
            break;
        }
        waiting.drain(..passes);
    }
    let _ = to.write_all(&waiting);
    let _ = to.shutdown(Shutdown::Write);
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

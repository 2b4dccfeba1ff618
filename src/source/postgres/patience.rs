//! Statements that may wait for others: they are watched, and end before their time when they should.
//!
//! Making a replication slot waits for every transaction of the server that has a number, a lock for everybody who is in its
//! way. The server says nothing while it does. So a thread of its own looks at it from beside: it says for whom the statement
//! waits, and cancels it when the user stops the program, or when patience ends.

use super::blockers::{Blockers, OpenTransactions, open_transactions};
use super::options::PgOptions;
use super::wire::{Canceller, Wire};
use crate::output::say;
use crate::source::SourceError;
use ::postgres::Client;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A wait that is shorter is nobody's business.
const FIRST_LOOK: Duration = Duration::from_millis(1_500);
const NEXT_LOOK: Duration = Duration::from_millis(500);
/// How soon a stop is heard.
const STEP: Duration = Duration::from_millis(50);
/// A cancel that comes between two statements is lost, so it is sent again.
const CANCEL_AGAIN: Duration = Duration::from_millis(300);
/// Unless it is said otherwise.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// What was made has to go, also when the user does not want to wait any more; but not for long.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// How long statements may wait for the transactions of others, and who can end such a wait.
#[derive(Clone)]
pub struct PgPatience {
    wait_max: Duration,
    stop: Arc<AtomicBool>,
    say: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for PgPatience {
    /// Ten minutes, ended by nobody, told on stderr.
    fn default() -> PgPatience {
        PgPatience::new(WAIT_MAX, Arc::default())
    }
}

impl fmt::Debug for PgPatience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgPatience").field("wait_max", &self.wait_max).finish_non_exhaustive()
    }
}

/// It says nothing of where a server is.
impl PartialEq for PgPatience {
    fn eq(&self, _: &PgPatience) -> bool {
        true
    }
}

impl Eq for PgPatience {}

impl PgPatience {
    /// Ends waits after `wait_max`, or soon after `stop` was raised; what is waited for is said on stderr.
    pub fn new(wait_max: Duration, stop: Arc<AtomicBool>) -> PgPatience {
        PgPatience { wait_max, stop, say: Arc::new(|line| say!("freshbench: {line}")) }
    }

    /// Says what is waited for elsewhere.
    #[must_use]
    pub fn saying(self, say: impl Fn(&str) + Send + Sync + 'static) -> PgPatience {
        PgPatience { say: Arc::new(say), ..self }
    }

    /// The same for a shorter wait.
    #[must_use]
    pub fn at_most(&self, wait_max: Duration) -> PgPatience {
        PgPatience { wait_max: self.wait_max.min(wait_max), ..self.clone() }
    }

    /// For removing what was made, also after the user stopped the program.
    #[must_use]
    pub fn for_farewell(&self) -> PgPatience {
        if !self.is_stopped() {
            return self.clone();
        }
        PgPatience { wait_max: FAREWELL_MAX, stop: Arc::default(), say: Arc::clone(&self.say) }
    }

    /// Says something to whoever hears of waits.
    pub fn say(&self, line: &str) {
        (self.say)(line);
    }

    /// How long a wait may last.
    pub fn wait_max(&self) -> Duration {
        self.wait_max
    }

    /// Whether the user wants to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An error once the user wants to end.
    ///
    /// # Errors
    /// [`SourceError::Stopped`].
    pub fn check(&self) -> Result<(), SourceError> {
        if self.is_stopped() { Err(SourceError::Stopped) } else { Ok(()) }
    }
}

/// Why a wait was ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stopped,
    TooLong,
}

struct Watched {
    over: Mutex<bool>,
    wake: Condvar,
    process: AtomicI32,
    canceller: Mutex<Option<Canceller>>,
    ended: Mutex<Option<Ended>>,
    /// Whom it waited for when it was looked at last.
    who: Mutex<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches the statements of one session until it is dropped.
pub struct PgWatch {
    what: &'static str,
    options: PgOptions,
    begun: Instant,
    watched: Arc<Watched>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for PgWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgWatch").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Drop for PgWatch {
    fn drop(&mut self) {
        *lock(&self.watched.over) = true;
        self.watched.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // Its connection has to be gone before another one is opened.
            let _ = thread.join();
        }
    }
}

impl PgWatch {
    /// Begins to watch what is done at a server with its patience: `what`, as in "making a replication slot".
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn begin(options: &PgOptions, what: &'static str) -> Result<PgWatch, SourceError> {
        PgWatch::start(options, what, false)
    }

    /// As [`PgWatch::begin`], of something that takes its time: only while others are in its way it needs patience.
    ///
    /// # Errors
    /// As [`PgWatch::begin`].
    pub fn of_work(options: &PgOptions, what: &'static str) -> Result<PgWatch, SourceError> {
        PgWatch::start(options, what, true)
    }

    fn start(options: &PgOptions, what: &'static str, works: bool) -> Result<PgWatch, SourceError> {
        let watched = Arc::new(Watched {
            over: Mutex::new(false),
            wake: Condvar::new(),
            process: AtomicI32::new(0),
            canceller: Mutex::new(None),
            ended: Mutex::new(None),
            who: Mutex::new(String::new()),
        });
        let begun = Instant::now();
        let waits_since = (!works).then_some(begun);
        let watcher = Watcher {
            what,
            options: options.clone(),
            begun,
            works,
            waits_since,
            watched: Arc::clone(&watched),
            client: None,
        };
        let name = "pg-watch".to_owned();
        let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || watcher.watch());
        let thread = Some(spawned.map_err(|_| SourceError::Thread { name })?);
        Ok(PgWatch { what, options: options.clone(), begun, watched, thread })
    }

    /// The session that is to be watched from now on.
    ///
    /// # Errors
    /// When the server does not say which process it is.
    pub fn of_client(&self, client: &mut Client) -> Result<(), SourceError> {
        let asked = client.query_one("SELECT pg_catalog.pg_backend_pid()", &[]);
        let row = asked.map_err(SourceError::postgres("ask for the process of", self.options.place()))?;
        self.watched.process.store(row.get(0), Ordering::Release);
        Ok(())
    }

    /// As [`PgWatch::of_client`]. It can be cancelled without another connection.
    ///
    /// # Errors
    /// As [`PgWatch::of_client`].
    pub fn of_wire(&self, wire: &mut Wire) -> Result<(), SourceError> {
        let rows = wire.query("SELECT pg_catalog.pg_backend_pid()")?;
        let told = rows.first().and_then(|row| row.first().cloned().flatten()).and_then(|text| text.parse().ok());
        self.watched.process.store(told.unwrap_or(0), Ordering::Release);
        *lock(&self.watched.canceller) = wire.canceller();
        Ok(())
    }

    /// An error once the wait is to end. For those who try again and again.
    ///
    /// # Errors
    /// [`SourceError::Stopped`] or [`SourceError::Waited`].
    pub fn check(&self) -> Result<(), SourceError> {
        match self.why() {
            Some(cause) => Err(cause),
            None => self.options.patience.check(),
        }
    }

    /// The outcome of what was watched; where it failed because it was ended from here, why it was.
    ///
    /// # Errors
    /// As `outcome`.
    pub fn end<T, E: From<SourceError>>(self, outcome: Result<T, E>) -> Result<T, E> {
        match (outcome, self.why()) {
            (Err(_), Some(cause)) => Err(cause.into()),
            (outcome, _) => outcome,
        }
    }

    fn why(&self) -> Option<SourceError> {
        let ended = *lock(&self.watched.ended);
        Some(match ended? {
            Ended::Stopped => SourceError::Stopped,
            Ended::TooLong => too_long(self.what, &self.options, self.begun, &lock(&self.watched.who)),
        })
    }
}

fn too_long(what: &'static str, options: &PgOptions, begun: Instant, who: &str) -> SourceError {
    let for_whom = if who.is_empty() { String::new() } else { format!(" for {who}") };
    let seconds = begun.elapsed().as_secs();
    SourceError::Waited { what: format!("{}: {what} waited {seconds} s{for_whom}", options.place()) }
}

struct Watcher {
    what: &'static str,
    options: PgOptions,
    begun: Instant,
    /// Whether it does something itself while nobody is in its way.
    works: bool,
    waits_since: Option<Instant>,
    watched: Arc<Watched>,
    client: Option<Client>,
}

impl Watcher {
    fn watch(mut self) {
        let (mut look_at, mut said) = (FIRST_LOOK, Blockers::default());
        let mut cancelled: Option<Instant> = None;
        while !self.is_over() {
            let ended = if self.options.patience.is_stopped() {
                Some(Ended::Stopped)
            } else if self.waits_since.is_some_and(|since| since.elapsed() >= self.options.patience.wait_max()) {
                Some(Ended::TooLong)
            } else {
                None
            };
            if let Some(ended) = ended {
                lock(&self.watched.ended).get_or_insert(ended);
                if cancelled.is_none_or(|at| at.elapsed() >= CANCEL_AGAIN) {
                    cancelled = Some(Instant::now());
                    self.cancel();
                }
            } else if self.begun.elapsed() >= look_at {
                self.look(&mut said);
                look_at = self.begun.elapsed() + NEXT_LOOK;
            }
        }
    }

    /// Waits a moment. Whether what is watched is over.
    fn is_over(&self) -> bool {
        let over = lock(&self.watched.over);
        if *over {
            return true;
        }
        let waited = self.watched.wake.wait_timeout(over, STEP);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Says for whom the statement waits, when that is somebody else than was said.
    fn look(&mut self, said: &mut Blockers) {
        let process = self.watched.process.load(Ordering::Acquire);
        if process == 0 {
            return;
        }
        if self.client.is_none() {
            self.client = self.options.connect().ok();
        }
        let Some(client) = &mut self.client else { return };
        let found = Blockers::of_process(client, process).and_then(|found| Ok((found.in_words(client)?, found)));
        let Ok((words, found)) = found else {
            self.client = None;
            return;
        };
        if self.works {
            self.waits_since = if found.is_empty() { None } else { self.waits_since.or(Some(Instant::now())) };
        }
        if words.is_empty() || found == *said {
            return;
        }
        (self.options.patience.say)(&format!("{} waits for {words}", self.what));
        *lock(&self.watched.who) = words;
        *said = found;
    }

    fn cancel(&mut self) {
        let canceller = lock(&self.watched.canceller).clone();
        if let Some(canceller) = canceller {
            canceller.cancel();
            return;
        }
        let process = self.watched.process.load(Ordering::Acquire);
        if self.client.is_none() {
            self.client = self.options.connect().ok();
        }
        if let Some(client) = self.client.as_mut().filter(|_| process != 0)
            && client.execute("SELECT pg_catalog.pg_cancel_backend($1)", &[&process]).is_err()
        {
            self.client = None;
        }
    }
}

/// Transactions that were open at some time.
#[derive(Clone, Debug, Default)]
pub struct PgOpen(OpenTransactions);

impl PgOpen {
    /// Those that are open now, anywhere at the server.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn now(options: &PgOptions) -> Result<PgOpen, SourceError> {
        let mut client = options.connect()?;
        let found = open_transactions(&mut client).map_err(SourceError::postgres(LOOK, options.place()))?;
        Ok(PgOpen(found))
    }

    /// Waits until those of them that are open now have ended; says who they are when that takes a while.
    ///
    /// # Errors
    /// [`SourceError::Stopped`] or [`SourceError::Waited`] when patience ends, which is reckoned from `begun`; and when the
    /// server refuses.
    pub fn ended(&self, options: &PgOptions, what: &'static str, begun: Instant) -> Result<(), SourceError> {
        let failed = || SourceError::postgres(LOOK, options.place());
        let (mut client, mut said, mut words) = (options.connect()?, Blockers::default(), String::new());
        let mut look_at = Instant::now();
        loop {
            options.patience.check()?;
            let is_over = begun.elapsed() >= options.patience.wait_max();
            if is_over || Instant::now() >= look_at {
                let mut open = open_transactions(&mut client).map_err(failed())?;
                open.retain(|number, _| self.0.contains_key(number));
                let blockers = Blockers::of_transactions(&open);
                if blockers.is_empty() {
                    return Ok(());
                }
                if blockers != said && (is_over || begun.elapsed() >= FIRST_LOOK) {
                    words = blockers.in_words(&mut client).map_err(failed())?;
                    said = blockers;
                    if !is_over && !words.is_empty() {
                        (options.patience.say)(&format!("{what} waits for {words}"));
                    }
                }
                look_at = Instant::now() + NEXT_LOOK / 5;
            }
            if is_over {
                return Err(too_long(what, options, begun, &words));
            }
            std::thread::sleep(STEP);
        }
    }
}

const LOOK: &str = "look for open transactions at";

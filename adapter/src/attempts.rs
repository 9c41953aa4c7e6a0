//! Attempts at a replay. Where two positions of a program look alike, the first is taken (`src/attempt.rs`); if what
//! follows shows that it was another one, the replay begins anew and passes that match over.
//!
//! A library with threads of its own may go through a hash table in the order of addresses, which nothing records. Where
//! such a replay leaves the recording it begins anew with its libraries at other addresses. Each of these layouts is the
//! same every time, as far as the system allows it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::CliError;
use crate::process::Ending;

/// How many attempts one replay may take.
const MOST: u32 = 200;
/// How far back wrong matches are looked for, and how many candidates of one position are passed over at most.
const BACK: usize = 4;
const CANDIDATES: u32 = 2;
/// And of the newest alone: a thread may have gone around its loop a few times before it was interrupted.
const NEWEST_CANDIDATES: u32 = 24;

/// How long attempts are made, unless ten times the first one is longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// And where only arguments differ, which may mean nothing: how long, and how many.
const ARGUMENTS_PATIENCE: Duration = Duration::from_secs(10);
const ARGUMENTS_MOST: usize = 30;
/// How many seconds of CPU time an attempt of a search may take on its way to an event, where a replay is given more.
const TRIAL_PATIENCE: u64 = 3;
/// How many where an attempt was given up because it did not come to an event: each takes as long.
const ENDLESS_MOST: usize = 2;

/// How many layouts are tried.
const LAYOUTS: u32 = 40;

/// Whose output is not shown.
const ALL: u64 = u64::MAX;

/// How one attempt is made.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    report: PathBuf,
    pass_over: BTreeMap<u64, u32>,
    /// Bytes of stdout and stderr that were shown already.
    shown: (u64, u64),
    accept_arguments: bool,
    /// Where its libraries lie: a number that means nothing else.
    layout: u32,
    /// It looks at all checks on its way to a position (`src/skip.rs`).
    looks_at_all: bool,
}

impl Settings {
    /// Puts them into the environment. `patience`: the user's, in seconds.
    pub fn tell(&self, command: &mut Command, patience: u64) {
        let patience = if self.shown == (ALL, ALL) { patience.min(TRIAL_PATIENCE) } else { patience };
        command.env("RETRACE_PATIENCE", patience.to_string());
        command.env("RETRACE_ATTEMPT", &self.report);
        command.env("RETRACE_LAYOUT", format!("{:04}", self.layout));
        command.env("RETRACE_SKIP", if self.looks_at_all { "0" } else { "1" });
        if !self.pass_over.is_empty() {
            let pairs: Vec<String> = self.pass_over.iter().map(|(event, n)| format!("{event}:{n}")).collect();
            command.env("RETRACE_PASS_OVER", pairs.join(","));
        }
        // As long in every attempt, so that nothing moves by it.
        command.env("RETRACE_SHOWN", format!("{:020}/{:020}", self.shown.0, self.shown.1));
        if self.accept_arguments {
            command.env("RETRACE_ACCEPT_ARGUMENTS", "1");
        }
    }
}

/// Why an attempt ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Doubt {
    /// Only arguments differ, which may mean nothing.
    arguments: bool,
    /// It did not come to any event for very long.
    endless: bool,
    /// Addresses may have decided something before.
    addresses: bool,
    /// Positions may have been passed over.
    skipped: bool,
    event: u64,
    /// What it had written by then.
    written: (u64, u64),
    /// The events whose positions were found, newest last.
    matches: Vec<u64>,
    report: String,
}

impl Doubt {
    fn parse(text: &str) -> Option<Doubt> {
        let mut lines = text.splitn(3, '\n');
        let mut words = lines.next()?.split(' ');
        let kind = words.next()?;
        let mut number = || words.next()?.parse().ok();
        let (event, out, err) = (number()?, number()?, number()?);
        let words: Vec<&str> = words.collect();
        let (addresses, skipped) = (words.contains(&"addresses"), words.contains(&"skipped"));
        let matches = lines.next()?.split(',').filter_map(|word| word.parse().ok()).collect();
        let report = lines.next().unwrap_or_default().to_owned();
        let (arguments, endless) = (kind == "arguments", kind == "endless");
        Some(Doubt { arguments, endless, addresses, skipped, event, written: (out, err), matches, report })
    }
}

/// Why there are no more attempts.
enum Stop {
    /// Somebody wants the command to end.
    Interrupted(Ending),
    Failed(CliError),
}

impl From<CliError> for Stop {
    fn from(error: CliError) -> Stop {
        Stop::Failed(error)
    }
}

/// Makes attempts until one ends the way the recording did, or none does better than the first.
pub struct Attempts {
    report: PathBuf,
    /// An attempt has passed a position over.
    looks_at_all: Cell<bool>,
}

impl Attempts {
    /// `report`: a file in the replay's scratch folder, where an attempt says how it ended.
    pub fn new(report: PathBuf) -> Attempts {
        Attempts { report, looks_at_all: Cell::new(false) }
    }

    /// How the first attempt is made.
    pub fn first(&self) -> Settings {
        Settings { report: self.report.clone(), looks_at_all: self.looks_at_all.get(), ..Settings::default() }
    }

    /// Whether the last attempt ended in doubt.
    pub fn is_in_doubt(&self) -> bool {
        self.report.exists()
    }

    /// Runs attempts; the ending of the one that counts, and how that one was made.
    pub fn run(
        &self,
        quiet: bool,
        mut attempt: impl FnMut(&Settings) -> Result<(Ending, bool), CliError>,
    ) -> Result<(Ending, Settings), CliError> {
        let (made, first, begin) = (Cell::new(0u32), Cell::new(Duration::ZERO), Instant::now());
        let enough = || made.get() >= MOST || begin.elapsed() > PATIENCE.max(first.get() * 10);
        let mut once = |settings: &Settings| -> Result<(Ending, Option<Doubt>), Stop> {
            let _ = fs::remove_file(&self.report);
            made.set(made.get() + 1);
            let (ending, interrupted) = attempt(settings)?;
            if interrupted {
                return Err(Stop::Interrupted(ending));
            }
            if made.get() == 1 {
                first.set(begin.elapsed());
            }
            let doubt = fs::read_to_string(&self.report).ok().and_then(|text| Doubt::parse(&text));
            Ok((ending, doubt))
        };
        match self.until_it_fits(quiet, &mut once, &enough) {
            Ok(counts) => Ok(counts),
            Err(Stop::Interrupted(ending)) => Ok((ending, self.first())),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn until_it_fits(
        &self,
        quiet: bool,
        once: &mut impl FnMut(&Settings) -> Result<(Ending, Option<Doubt>), Stop>,
        enough: &dyn Fn() -> bool,
    ) -> Result<(Ending, Settings), Stop> {
        let mut settings = self.first();
        let (mut ending, mut found) = once(&settings)?;
        while let Some(doubt) = found.take() {
            settings.shown = (settings.shown.0.max(doubt.written.0), settings.shown.1.max(doubt.written.1));
            if doubt.skipped && !settings.looks_at_all {
                self.looks_at_all.set(true);
                settings.looks_at_all = true;
                (ending, found) = once(&settings)?;
                continue;
            }
            let better = match Self::search(&settings, &doubt, once, enough)? {
                None if doubt.addresses => Self::move_libraries(&settings, &doubt, once, enough)?,
                better => better,
            };
            match better {
                Some(better) => settings = Settings { shown: settings.shown, ..better },
                None if doubt.arguments => {
                    settings.accept_arguments = true;
                    if !quiet && !doubt.matches.is_empty() {
                        eprintln!("retrace: arguments differ below, and no other position that was tried explains it");
                    }
                }
                None => {
                    eprint!("{}", doubt.report);
                    return Ok((ending, settings));
                }
            }
            (ending, found) = once(&settings)?;
        }
        let wrong: u32 = settings.pass_over.values().sum();
        if wrong > 0 && !quiet {
            eprintln!("retrace: {wrong} recorded positions looked like an earlier one, which was tried first");
        }
        Ok((ending, settings))
    }

    /// Matches to pass over with which the replay gets further than it did.
    fn search(
        settings: &Settings,
        doubt: &Doubt,
        once: &mut impl FnMut(&Settings) -> Result<(Ending, Option<Doubt>), Stop>,
        enough: &dyn Fn() -> bool,
    ) -> Result<Option<Settings>, Stop> {
        let known = |event: &u64| settings.pass_over.get(event).copied().unwrap_or(0);
        let recent: Vec<u64> = doubt.matches.iter().rev().take(BACK).copied().collect();
        // Candidates that a position does not have, once an attempt has looked for them in vain.
        let mut exhausted: BTreeMap<u64, u32> = BTreeMap::new();
        let most = if doubt.arguments {
            ARGUMENTS_MOST
        } else if doubt.endless {
            ENDLESS_MOST
        } else {
            usize::MAX
        };
        let begin = Instant::now();
        for combination in combinations(recent.len()).into_iter().take(most) {
            let mut trial = Settings { shown: (ALL, ALL), ..settings.clone() };
            for (event, more) in recent.iter().zip(&combination).filter(|(_, more)| **more > 0) {
                trial.pass_over.insert(*event, known(event) + more);
            }
            if trial.pass_over.iter().any(|(event, n)| exhausted.get(event).is_some_and(|limit| n >= limit)) {
                continue;
            }
            if enough() || doubt.arguments && begin.elapsed() > ARGUMENTS_PATIENCE {
                break;
            }
            let (_, after) = once(&trial)?;
            match after {
                // It looked for a candidate that is not there.
                Some(after) if recent.contains(&after.event) && trial.pass_over.contains_key(&after.event) => {
                    exhausted.insert(after.event, trial.pass_over[&after.event]);
                }
                Some(after) if after.event <= doubt.event => {}
                _ => return Ok(Some(trial)),
            }
        }
        Ok(None)
    }

    /// The next layout with which the replay gets further than it did.
    fn move_libraries(
        settings: &Settings,
        doubt: &Doubt,
        once: &mut impl FnMut(&Settings) -> Result<(Ending, Option<Doubt>), Stop>,
        enough: &dyn Fn() -> bool,
    ) -> Result<Option<Settings>, Stop> {
        for layout in settings.layout + 1..LAYOUTS {
            if enough() {
                break;
            }
            let trial = Settings { shown: (ALL, ALL), layout, ..settings.clone() };
            let (_, after) = once(&trial)?;
            if after.is_none_or(|after| after.event > doubt.event) {
                return Ok(Some(trial));
            }
        }
        Ok(None)
    }
}

/// How many more candidates to pass over at each of `n` positions, newest first: few before many, and near before far.
/// Four of the newest count as one: going around a loop once more is likely, and tried soon.
fn combinations(n: usize) -> Vec<Vec<u32>> {
    let mut all = vec![Vec::new()];
    for _ in 0..n {
        all = all
            .into_iter()
            .flat_map(|head: Vec<u32>| (0..=CANDIDATES).map(move |more| [head.as_slice(), &[more]].concat()))
            .collect();
    }
    all.retain(|combination| combination.iter().any(|more| *more > 0));
    if n > 0 {
        let newest = CANDIDATES + 1..=NEWEST_CANDIDATES;
        all.extend(newest.map(|more| [&[more][..], &vec![0; n - 1]].concat()));
    }
    all.sort_by_key(|combination| {
        let weigh = |(distance, &more): (usize, &u32)| match distance as u32 {
            0 => more.div_ceil(4),
            distance => (distance + 1) * more,
        };
        let weight: u32 = combination.iter().enumerate().map(weigh).sum();
        (weight, combination.iter().rev().copied().collect::<Vec<_>>())
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with one ambiguous position, at event 10, whose third candidate is the right one; it shows at event 20.
    fn program(report: &std::path::Path, settings: &Settings, right: u32, log: &mut Vec<Settings>) -> Ending {
        log.push(settings.clone());
        let taken = settings.pass_over.get(&10).copied().unwrap_or(0);
        if taken == right {
            return Ending::Exited(0);
        }
        let (event, matches) = if taken > right { (10, "5") } else { (20, "5,10") };
        fs::write(report, format!("diverged {event} 7 0\n{matches}\nthe report\n")).unwrap();
        Ending::Exited(70)
    }

    #[test]
    fn the_next_match_is_tried_and_output_shown_once() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("attempt");
        let mut log = Vec::new();
        for right in [2, NEWEST_CANDIDATES] {
            let attempts = Attempts::new(report.clone());
            let ending = attempts.run(true, |s| Ok((program(&report, s, right, &mut log), false))).unwrap();
            assert_eq!(ending.0, Ending::Exited(0));
            let last = log.last().unwrap();
            assert_eq!(last.pass_over, ending.1.pass_over);
            assert_eq!(last.pass_over, BTreeMap::from([(10, right)]));
            assert_eq!(last.shown, (7, 0));
        }
    }

    #[test]
    fn what_no_match_explains_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("attempt");
        let mut made = 0;
        let ending = Attempts::new(report.clone()).run(true, |_| {
            made += 1;
            fs::write(&report, "diverged 20 0 0\n5,10\nthe report\n").unwrap();
            Ok((Ending::Exited(70), false))
        });
        assert_eq!(ending.unwrap().0, Ending::Exited(70));
        // Every combination of two positions, more of the newest, and the first attempt.
        assert_eq!(made, 9 + NEWEST_CANDIDATES - CANDIDATES);
    }

    #[test]
    fn libraries_are_moved_where_addresses_may_have_decided() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("attempt");
        let attempt = |settings: &Settings, addresses: &str| {
            if addresses.is_empty() || settings.layout != 3 {
                fs::write(&report, format!("diverged 20 0 0{addresses}\n\nthe report\n")).unwrap();
                return Ok((Ending::Exited(70), false));
            }
            Ok((Ending::Exited(0), false))
        };
        let attempts = Attempts::new(report.clone());
        let (ending, settings) = attempts.run(true, |settings| attempt(settings, " addresses")).unwrap();
        assert_eq!((ending, settings.layout), (Ending::Exited(0), 3));
        assert_eq!(attempts.run(true, |settings| attempt(settings, "")).unwrap().0, Ending::Exited(70));
    }

    #[test]
    fn not_all_is_tried_for_arguments_or_where_nothing_comes() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("attempt");
        for (kind, most) in [("arguments", 1 + ARGUMENTS_MOST + 1), ("endless", 1 + ENDLESS_MOST)] {
            let mut made = 0;
            let ending = Attempts::new(report.clone()).run(true, |settings| {
                made += 1;
                if settings.accept_arguments {
                    return Ok((Ending::Exited(3), false));
                }
                fs::write(&report, format!("{kind} 20 0 0\n5,10,15,17\nthe report\n")).unwrap();
                Ok((Ending::Exited(70), false))
            });
            assert_eq!((ending.is_ok(), made), (true, most), "{kind}");
        }
    }

    #[test]
    fn where_positions_were_passed_over_the_next_attempt_looks_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("attempt");
        let attempts = Attempts::new(report.clone());
        let mut log = Vec::new();
        let ending = attempts.run(true, |settings| {
            log.push(settings.looks_at_all);
            assert!(settings.pass_over.is_empty());
            if settings.looks_at_all {
                return Ok((Ending::Exited(3), false));
            }
            fs::write(&report, "endless 20 5 0 skipped\n10\nthe report\n").unwrap();
            Ok((Ending::Exited(70), false))
        });
        assert_eq!((ending.unwrap().0, log), (Ending::Exited(3), vec![false, true]));
        assert!(attempts.first().looks_at_all);
    }

    #[test]
    fn arguments_that_differ_anyway_are_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("attempt");
        let ending = Attempts::new(report.clone()).run(true, |settings| {
            if settings.accept_arguments {
                return Ok((Ending::Exited(3), false));
            }
            fs::write(&report, "arguments 20 0 0\n10\n").unwrap();
            Ok((Ending::Exited(70), false))
        });
        assert_eq!(ending.unwrap().0, Ending::Exited(3));
    }
}

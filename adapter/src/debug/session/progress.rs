//! Progress of what takes long, for clients that show it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::debug::protocol::Writer;

/// What is done sooner is not worth to be shown.
const SHORT: Duration = Duration::from_millis(300);

/// What is going on.
struct Current {
    id: String,
    request: i64,
    begun: Instant,
    shown: Option<Instant>,
}

pub(super) struct Progress {
    to: Writer,
    /// The client shows it.
    pub(super) is_wanted: bool,
    current: Option<Current>,
}

/// What a client calls the progress of a request.
pub(super) fn id_of(request: i64) -> String {
    format!("request-{request}")
}

impl Progress {
    pub(super) fn new(to: Writer) -> Progress {
        Progress { to, is_wanted: false, current: None }
    }

    pub(super) fn begin(&mut self, request: i64) {
        self.current = Some(Current { id: id_of(request), request, begun: Instant::now(), shown: None });
    }

    /// So much has been done, of so much.
    pub(super) fn tell(&mut self, done: usize, all: usize) {
        let Some(current) = self.current.as_mut().filter(|_| self.is_wanted) else { return };
        if current.begun.elapsed() < SHORT {
            return;
        }
        if current.shown.is_none() {
            self.to.event(
                "progressStart",
                json!({
                    "progressId": current.id, "title": "Replaying", "requestId": current.request, "cancellable": true,
                }),
            );
        }
        if current.shown.is_none_or(|shown| shown.elapsed() > SHORT) {
            current.shown = Some(Instant::now());
            let mut body = json!({ "progressId": current.id });
            if let Some(percentage) = (100 * done).checked_div(all) {
                body["percentage"] = percentage.into();
            }
            self.to.event("progressUpdate", body);
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(Current { id, shown: Some(_), .. }) = self.current.take() {
            self.to.event("progressEnd", json!({ "progressId": id }));
        }
    }
}

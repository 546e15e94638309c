//! Bounds how many batches a scan holds open, without deadlock.
//!
//! Operators such as CoalescePartitions start all partitions at once; every open batch costs buffers. The gate
//! admits a few at a time. Some operators need a row of *every* partition before they take a second one of any:
//! so when all holders have waited for their consumer for a while, the gate lends: it doubles its limit. Holders that
//! read, decode or filter are busy, however long it takes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::metrics::ScanMetrics;

/// When all holders have waited for their consumer for this long, the gate lends. Long against handing on a record
/// batch, short for a person.
const STALL: Duration = Duration::from_millis(10);

/// Stalls without progress after which the gate lends to busy holders, too: nobody may be polling them.
const PATIENCE: u32 = 200;

/// Admits batch runs to being open, lowest rank first among those that wait.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    /// Grows when a holder produces or ends.
    progress: AtomicU64,
    /// Holders that gave rows out and were not asked for more yet.
    idle: AtomicUsize,
    metrics: ScanMetrics,
}

#[derive(Debug)]
struct State {
    /// Holders allowed now.
    limit: usize,
    /// Holders allowed when nothing is lent.
    base_limit: usize,
    open: usize,
    /// Until this many runs wait, nobody is admitted: the best of them is to be first.
    awaited: usize,
    /// The first holder goes alone until its consumer comes back for more.
    is_trial: bool,
    arrivals: u64,
    waiting: BinaryHeap<Reverse<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    rank: usize,
    arrival: u64,
    admit: oneshot::Sender<()>,
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        (self.rank, self.arrival) == (other.rank, other.arrival)
    }
}

impl Eq for Waiter {}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.rank, self.arrival).cmp(&(other.rank, other.arrival))
    }
}

impl Gate {
    /// A gate for `limit` holders, first come, first served.
    pub(crate) fn new(limit: usize, metrics: ScanMetrics) -> Self {
        let base_limit = limit.max(1);
        let state = State {
            limit: base_limit,
            base_limit,
            open: 0,
            awaited: 0,
            is_trial: false,
            arrivals: 0,
            waiting: BinaryHeap::new(),
        };
        Self { state: Mutex::new(state), progress: AtomicU64::new(0), idle: AtomicUsize::new(0), metrics }
    }

    /// A gate for `limit` holders that looks for the best first: it admits nobody before `awaited` runs wait, then the
    /// best of them alone. When its first rows have been consumed, they may have excluded most of the others.
    pub(crate) fn best_first(limit: usize, awaited: usize, metrics: ScanMetrics) -> Self {
        let mut gate = Self::new(limit, metrics);
        let state = gate.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        (state.awaited, state.is_trial, state.limit) = (awaited, true, 1);
        gate
    }

    /// Waits for a place. The permit gives it back when dropped; so does dropping the future.
    pub(crate) async fn acquire(self: Arc<Self>, rank: usize) -> Permit {
        let mut admitted = self.enqueue(rank);
        let mut stalls = 0;
        loop {
            let before = self.progress.load(Ordering::Relaxed);
            match tokio::time::timeout(STALL, &mut admitted.receiver).await {
                Ok(_) => {
                    admitted.is_taken = true;
                    return Permit { gate: Arc::clone(&self), is_idle: AtomicBool::new(false) };
                }
                Err(_) if self.progress.load(Ordering::Relaxed) == before => {
                    stalls += 1;
                    self.lend(before, stalls >= PATIENCE);
                }
                Err(_) => stalls = 0,
            }
        }
    }

    fn enqueue(self: &Arc<Self>, rank: usize) -> Admission {
        let (admit, receiver) = oneshot::channel();
        let mut state = self.lock();
        let arrival = state.arrivals;
        state.arrivals += 1;
        state.waiting.push(Reverse(Waiter { rank, arrival, admit }));
        if state.arrivals >= state.awaited as u64 {
            state.awaited = 0;
            self.admit_waiting(&mut state);
        }
        Admission { gate: Arc::clone(self), receiver, is_taken: false }
    }

    fn lend(&self, before: u64, to_busy: bool) {
        let mut state = self.lock();
        // Another waiter may have lent, or a holder moved, since.
        if self.progress.load(Ordering::Relaxed) != before {
            return;
        }
        let is_choosing = state.awaited > 0 || state.is_trial;
        if !is_choosing && !to_busy && self.idle.load(Ordering::Relaxed) < state.open {
            return;
        }
        self.note_progress();
        if state.awaited > 0 {
            state.awaited = 0;
        } else if state.is_trial {
            self.end_trial(&mut state);
        } else if state.open >= state.limit {
            state.limit = state.limit.saturating_mul(2);
            self.metrics.gate_lends.add(1);
        }
        self.admit_waiting(&mut state);
    }

    fn admit_waiting(&self, state: &mut State) {
        while state.open < state.limit {
            let Some(Reverse(waiter)) = state.waiting.pop() else { return };
            state.open += 1;
            self.metrics.peak_open.set_max(state.open);
            // A waiter that is gone gives its place to the next.
            if waiter.admit.send(()).is_err() {
                state.open -= 1;
            }
        }
    }

    fn note_progress(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// A holder's consumer has come back after its first rows.
    fn note_consumed(&self) {
        let mut state = self.lock();
        if state.is_trial {
            self.end_trial(&mut state);
            self.admit_waiting(&mut state);
        }
    }

    fn end_trial(&self, state: &mut State) {
        (state.is_trial, state.limit) = (false, state.base_limit);
    }

    fn release(&self) {
        self.note_progress();
        let mut state = self.lock();
        if state.is_trial {
            self.end_trial(&mut state);
        }
        state.open = state.open.saturating_sub(1);
        // What was lent is taken back as holders end.
        state.limit = state.limit.min(state.open.max(state.base_limit));
        self.admit_waiting(&mut state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue; gives back a place that was granted and never used.
struct Admission {
    gate: Arc<Gate>,
    receiver: oneshot::Receiver<()>,
    is_taken: bool,
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.is_taken {
            self.receiver.close();
            if self.receiver.try_recv().is_ok() {
                self.gate.release();
            }
        }
    }
}

/// The right to hold one batch run open.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    /// The holder waits for its consumer.
    is_idle: AtomicBool,
}

impl Permit {
    /// The holder gave something out: until it is asked for more, it waits for its consumer.
    pub(crate) fn note_produced(&self) {
        self.gate.note_progress();
        if !self.is_idle.swap(true, Ordering::Relaxed) {
            self.gate.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The holder is asked for more: its consumer is done with what it gave out.
    pub(crate) fn note_asked(&self) {
        if self.is_idle.swap(false, Ordering::Relaxed) {
            self.gate.idle.fetch_sub(1, Ordering::Relaxed);
            self.gate.note_consumed();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if *self.is_idle.get_mut() {
            self.gate.idle.fetch_sub(1, Ordering::Relaxed);
        }
        self.gate.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::metrics::PruningSummary;
    use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
    use futures::FutureExt;

    fn metrics() -> ScanMetrics {
        ScanMetrics::register(&ExecutionPlanMetricsSet::new(), &PruningSummary::default())
    }

    fn gate(limit: usize) -> Arc<Gate> {
        Arc::new(Gate::new(limit, metrics()))
    }

    #[tokio::test]
    async fn holders_are_bounded_and_the_lowest_rank_is_next() {
        let gate = gate(1);
        let first = Arc::clone(&gate).acquire(9).await;
        let mut third = Box::pin(Arc::clone(&gate).acquire(3));
        let mut second = Box::pin(Arc::clone(&gate).acquire(2));
        assert!(third.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none());
        drop(second.await);
        drop(third.await);
    }

    #[tokio::test]
    async fn the_best_of_the_awaited_is_first_and_alone_until_consumed() {
        let gate = Arc::new(Gate::best_first(4, 3, metrics()));
        let mut worst = Box::pin(Arc::clone(&gate).acquire(9));
        let mut worse = Box::pin(Arc::clone(&gate).acquire(5));
        assert!(worst.as_mut().now_or_never().is_none());
        assert!(worse.as_mut().now_or_never().is_none());
        let best = Arc::clone(&gate).acquire(1).now_or_never().unwrap();
        assert!(worse.as_mut().now_or_never().is_none());
        best.note_produced();
        best.note_asked();
        let _worse = worse.now_or_never().unwrap();
        let _worst = worst.now_or_never().unwrap();
    }

    #[tokio::test]
    async fn a_stall_lends_until_all_are_open_and_takes_back() {
        let gate = gate(2);
        let mut held = Vec::new();
        for rank in 0..100 {
            let permit = Arc::clone(&gate).acquire(rank).await;
            permit.note_produced();
            held.push(permit);
        }
        assert!(gate.metrics.gate_lends.value() >= 6);
        held.clear();
        assert_eq!(gate.lock().limit, 2);
        assert_eq!(gate.lock().open, 0);
    }

    #[tokio::test]
    async fn a_busy_holder_is_waited_for() {
        let gate = gate(1);
        let busy = Arc::clone(&gate).acquire(0).await;
        let waiting = tokio::time::timeout(20 * STALL, Arc::clone(&gate).acquire(1));
        assert!(waiting.await.is_err(), "nothing is lent while the holder works");
        assert_eq!(gate.metrics.gate_lends.value(), 0);
        busy.note_produced();
        let _second = Arc::clone(&gate).acquire(1).await;
        assert_eq!(gate.metrics.gate_lends.value(), 1);
    }

    #[tokio::test]
    async fn a_waiter_that_is_dropped_leaves_no_hole() {
        let gate = gate(1);
        let first = Arc::clone(&gate).acquire(0).await;
        let mut gone = Box::pin(Arc::clone(&gate).acquire(1));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(first);
        drop(gone);
        Arc::clone(&gate).acquire(2).now_or_never().unwrap();
    }
}

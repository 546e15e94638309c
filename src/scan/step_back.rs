//! A task that lets others come first.

use std::future::poll_fn;
use std::mem::replace;
use std::task::Poll;

/// Puts this task behind the others of its thread, where other threads can take it from. A task that was just woken by
/// this one, or by the end of another, would otherwise be next on this thread and nowhere else.
///
/// Unlike `tokio::task::yield_now`, which may put it aside, where nobody takes it, until the thread has nothing else to do.
pub(super) async fn step_back() {
    let mut is_back = false;
    poll_fn(|context| match replace(&mut is_back, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

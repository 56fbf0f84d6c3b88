//! Many things at once, but not too many: the workers of a wave.

use std::collections::VecDeque;
use std::sync::Mutex;

use anyhow::Result;

/// Runs `act` for every item with at most `workers` at a time, in order. After a failure what has begun
/// is finished and nothing new is begun; the first failure is returned.
pub fn run<T: Sync>(items: &[T], workers: usize, act: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let waiting: Mutex<VecDeque<&T>> = Mutex::new(items.iter().collect());
    let failure = Mutex::new(None);
    let next = || {
        let stop = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some();
        let mut waiting = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if stop { None } else { waiting.pop_front() }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while let Some(item) = next() {
                    if let Err(error) = act(item) {
                        let mut failure = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        failure.get_or_insert(error);
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn nothing_new_begins_after_a_failure() {
        let done = Mutex::new(Vec::new());

        let outcome = run(&[1, 2, 3, 4], 1, |item| {
            done.lock().unwrap().push(*item);
            if *item == 2 { anyhow::bail!("two failed") } else { Ok(()) }
        });

        assert_eq!(outcome.unwrap_err().to_string(), "two failed");
        assert_eq!(done.into_inner().unwrap(), [1, 2]);
    }

    #[test]
    fn never_more_than_so_many_work_at_once() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));

        run(&[0; 20], 3, |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();

        assert!(most.into_inner() <= 3);
    }
}

//! What blocks on the disk is lent to a thread that may block, and comes back with the outcome.

use tokio::task::spawn_blocking;

/// Something of which one deed after the other is done, none of them on the thread of all tasks.
#[derive(Debug)]
pub(super) struct Lent<T>(Result<T, String>);

impl<T> From<Result<T, String>> for Lent<T> {
    fn from(found: Result<T, String>) -> Self {
        Self(found)
    }
}

impl<T: Send + 'static> Lent<T> {
    /// What is in memory of it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn get(&self) -> Result<&T, String> {
        self.0.as_ref().map_err(Clone::clone)
    }

    /// As [`get`](Self::get), for what needs no disk.
    pub fn get_mut(&mut self) -> Result<&mut T, String> {
        self.0.as_mut().map_err(|trouble| trouble.clone())
    }

    /// Does what may block. Not safe to cancel: what was lent would be lost.
    ///
    /// # Errors
    /// Why it cannot be used; what the deed itself comes to is its own.
    pub async fn with<R: Send + 'static>(
        &mut self,
        deed: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, String> {
        self.get()?;
        let mut lent = std::mem::replace(&mut self.0, Err("it was lost when a thread broke down".to_owned()))?;
        let done = spawn_blocking(move || {
            let outcome = deed(&mut lent);
            (lent, outcome)
        });
        match done.await {
            Ok((lent, outcome)) => {
                self.0 = Ok(lent);
                Ok(outcome)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_used_says_so_each_time() {
        let mut gone: Lent<u32> = Err("no disk".to_owned()).into();
        let mut here: Lent<u32> = Ok(1).into();

        assert_eq!(here.with(|number| std::mem::replace(number, 2)).await, Ok(1));
        assert_eq!(here.get(), Ok(&2));
        for _ in 0..2 {
            assert_eq!(gone.with(|number| *number).await, Err("no disk".to_owned()));
        }
    }
}

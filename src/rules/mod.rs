//! Windowed rules at the edge: what they say, and what becomes of it. Pure: time is an argument.
//!
//! Samples lie in a [`ring`] for each series, a [`window`] slides over it, and a [`summary`] says what is known about
//! the samples of a window: so the frequent forms of an expression ([`plan`]) cost the same however long their windows
//! are; everything else is left to the evaluator of the whole language, [`eval`]. The [`engine`] evaluates them; what a
//! rule finds is the condition of an [`alarm`], or a series of its own. [`testing`] runs unit tests through the same
//! engine, and [`backtest`] the past.

pub mod alarm;
pub mod backtest;
pub mod bounded;
mod chunk;
pub mod engine;
pub mod eval;
pub mod export;
pub mod file;
pub mod general;
pub mod interlock;
pub mod live;
pub mod plan;
pub mod range;
pub mod ring;
pub mod spec;
pub mod summary;
pub mod syntax;
pub mod testing;
pub mod text;
pub mod thinned;
pub mod unmatched;
pub mod window;

//! `shingle-tests crash`: runs the scripts and says what was covered.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::run::{Options, Outcome, run};
use super::scripts::{SCRIPTS, Script};
use super::stage::Lie;
use super::table::Table;

/// The command's flags.
#[derive(Args)]
pub struct Crash {
    /// Decides everything that is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One script instead of all.
    #[arg(long, value_name = "SCRIPT", value_parser = names())]
    only: Option<String>,
    /// Check about so many images of each script, spread evenly, and the first of every cell of the table.
    #[arg(long)]
    limit: Option<u64>,
    /// Check one image only; a violation names it.
    #[arg(long, requires = "only")]
    image: Option<u64>,
    #[arg(long)]
    json: bool,
}

fn names() -> clap::builder::PossibleValuesParser {
    SCRIPTS.iter().map(|script| script.name).collect::<Vec<_>>().into()
}

/// Violations told in full.
const TOLD: usize = 10;

impl Crash {
    /// Runs it; fails on any violation, and on a cell of the table that nothing covers.
    pub fn run(&self) -> ExitCode {
        let start = Instant::now();
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let options = Options { seed: self.seed, limit: self.limit, image: self.image, threads, lie: Lie::None };
        let mut total = Outcome::default();
        let mut violations = Vec::new();
        let chosen = |script: &&Script| self.only.as_ref().is_none_or(|only| only == script.name);
        for script in SCRIPTS.iter().filter(chosen) {
            let outcome = run(script, &options);
            eprintln!(
                "{:18} images {}, distinct {}, checked {}, violations {}, {:.1} s",
                script.name,
                outcome.images,
                outcome.distinct.len(),
                outcome.checked,
                outcome.violations.len(),
                start.elapsed().as_secs_f64()
            );
            total.images += outcome.images;
            total.distinct.extend(&outcome.distinct);
            total.checked += outcome.checked;
            total.table.add(&outcome.table);
            violations.extend(
                outcome
                    .violations
                    .into_iter()
                    .map(|found| self.describe(script, &found.0.what, &found.1, found.0.image)),
            );
        }
        let empty = if self.only.is_none() { total.table.empty() } else { Vec::new() };
        if self.json {
            println!("{}", self.to_json(&total, &violations, &empty));
        } else {
            println!("{}", total.table.print());
            violations.iter().take(TOLD).for_each(|violation| println!("\n{violation}"));
            empty.iter().for_each(|cell| println!("not covered: {cell}"));
            println!("images {}, distinct {}, violations {}", total.images, total.distinct.len(), violations.len());
        }
        if violations.is_empty() && empty.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn describe(&self, script: &Script, what: &str, story: &str, image: u64) -> String {
        let replay = format!("--seed {} --only {} --image {image}", self.seed, script.name);
        format!("VIOLATION: {what}\n  {story}\n  cargo run --release -p shingle-tests -- crash {replay}")
    }

    fn to_json(&self, total: &Outcome, violations: &[String], empty: &[String]) -> serde_json::Value {
        json!({
            "seed": self.seed,
            "images": total.images,
            "distinct": total.distinct.len(),
            "checked": total.checked,
            "violations": violations,
            "not_covered": empty,
            "cells": cells(&total.table),
        })
    }
}

fn cells(table: &Table) -> Vec<serde_json::Value> {
    let cell = |(row, class, count): (super::row::Row, super::variants::Class, super::table::Count)| {
        json!({
            "boundary": row.0.name(),
            "when": format!("{:?}", row.1).to_lowercase(),
            "variant": class.name(),
            "images": count.built,
            "checked": count.checked,
        })
    };
    table.cells().map(cell).collect()
}

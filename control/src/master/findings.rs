//! Keeps findings in the store, so that none is lost with the control process (invariant 10): who tells one is answered
//! when it is durable.

mod book;

use std::cell::RefCell;
use std::rc::Rc;

use shingle_proto::limits::{FINDINGS_ANSWER_MAX, FINDINGS_PER_TRANSACTION_MAX, STATUS_FINDINGS_MAX};
use shingle_proto::message::{CellStatus, Finding, FindingList};
use tokio::sync::Semaphore;

use self::book::Book;
use crate::tables::Tables;
use crate::tables::findings::{findings_after, write_findings};
use crate::tables::work::{TableError, Work};

/// Findings read in one transaction at start: under 2 MB.
const LOAD_ROWS: usize = 1000;

/// The findings of a cell.
pub(super) struct Findings {
    tables: Tables,
    book: RefCell<Book>,
    /// One writer at a time; who waited finds its findings written.
    writing: Semaphore,
}

impl Findings {
    /// Reads what earlier processes have kept.
    pub async fn load(tables: Tables) -> Result<Rc<Self>, TableError> {
        let mut book = Book::default();
        let mut after = None;
        loop {
            let page = findings_after(&tables.look(), after.as_ref(), LOAD_ROWS).await?;
            let full = page.len() == LOAD_ROWS;
            after = page.last().map(|(key, _)| key.clone());
            page.into_iter().for_each(|(key, row)| book.load(key, row));
            if !full {
                return Ok(Rc::new(Self { tables, book: RefCell::new(book), writing: Semaphore::new(1) }));
            }
        }
    }

    /// Takes findings over. They are durable when this ends well; dropped before, they are written with the next ones.
    pub async fn keep(&self, findings: &[Finding]) -> Result<(), TableError> {
        let now_ms = self.tables.world().clock.unix_ms();
        findings.iter().for_each(|finding| self.book.borrow_mut().take(finding, now_ms));
        if self.book.borrow().unsaved(1).is_empty() {
            return Ok(());
        }
        let Ok(_turn) = self.writing.acquire().await else { return Ok(()) };
        loop {
            let changes = self.book.borrow().unsaved(FINDINGS_PER_TRANSACTION_MAX);
            if changes.is_empty() {
                return Ok(());
            }
            self.tables.run(async |work: &Work| write_findings(work, &changes).await).await?;
            self.book.borrow_mut().saved(&changes);
        }
    }

    /// As [`Findings::keep`], in a task of its own: for who cannot wait.
    pub fn keep_soon(self: &Rc<Self>, finding: Finding) {
        let findings = self.clone();
        let task = async move {
            if let Err(error) = findings.keep(&[finding]).await {
                tracing::error!(%error, "a finding is not in the store yet");
            }
        };
        self.tables.world().tasks.spawn("keep finding", Box::pin(task));
    }

    /// A page of all of them.
    pub fn list(&self, after_id: u64, limit: u32) -> FindingList {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(FINDINGS_ANSWER_MAX);
        let (findings, end) = self.book.borrow().after(after_id, limit);
        FindingList { findings, end }
    }

    /// The findings' part of the cell's status.
    pub fn fill_status(&self, status: &mut CellStatus) {
        let book = self.book.borrow();
        status.findings = book.count();
        status.findings_open = book.open();
        status.finding_counts = book.counts();
        status.recent_findings = book.newest(STATUS_FINDINGS_MAX);
    }
}

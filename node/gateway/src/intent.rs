//! An upload intent: the lease that keeps an object's blocks alive until its row is flipped (invariant 12). Renewed at
//! a third of the lease; lost, it ends the upload, and nothing of it becomes visible.

use std::rc::Rc;
use std::time::Duration;

use shingle_proto::ids::PutToken;
use shingle_proto::message::{AbortIntent, Id128, OpenIntent, RenewIntent, Request, Response};

use crate::catalog::{Origin, expect_done, expect_variant};
use crate::core::Core;
use crate::request::{GatewayError, ObjectName};

/// A live upload.
#[derive(Clone, Debug)]
pub struct Intent {
    pub manifest: Id128,
    pub put_token: PutToken,
    /// Of the user's request behind the upload.
    trace: u64,
    lease: Duration,
}

impl Intent {
    /// Does `work` under a new intent: renewed meanwhile, aborted when the work fails.
    pub async fn hold<T>(
        core: &Rc<Core>,
        name: &ObjectName,
        work: impl AsyncFnOnce(&Intent) -> Result<T, GatewayError>,
    ) -> Result<T, GatewayError> {
        let intent = Self::open(core, name).await?;
        let result = tokio::select! {
            biased;
            result = work(&intent) => result,
            error = intent.keep_alive(core) => Err(error),
        };
        if result.is_err() {
            intent.abort(core);
        }
        result
    }

    async fn open(core: &Core, name: &ObjectName) -> Result<Self, GatewayError> {
        let origin = core.control.origin();
        let open = OpenIntent { s3_bucket: name.s3_bucket.clone(), key: name.key.clone() };
        let opened =
            expect_variant!(core.control.call_for(Request::OpenIntent(Box::new(open)), origin).await?, IntentOpened)?;
        Ok(Self {
            manifest: opened.manifest,
            put_token: PutToken(opened.put_token),
            trace: origin.trace,
            lease: Duration::from_millis(opened.lease_ms),
        })
    }

    /// What everything done for this upload travels under.
    pub fn origin(&self) -> Origin {
        Origin { put_token: self.put_token, trace: self.trace }
    }

    /// A request under this intent's token.
    pub async fn call(&self, core: &Core, request: Request) -> Result<Response, GatewayError> {
        core.control.call_for(request, self.origin()).await
    }

    /// Renews the lease for as long as it is polled; ends only when the lease is lost.
    async fn keep_alive(&self, core: &Core) -> GatewayError {
        let mut expires = core.world.clock.now() + self.lease;
        loop {
            core.world.tasks.sleep(self.lease / 3).await;
            let asked = core.world.clock.now();
            let renew = RenewIntent { manifest: self.manifest.clone(), put_token: self.put_token.0 };
            match self.call(core, Request::RenewIntent(Box::new(renew))).await {
                Ok(_) => expires = asked + self.lease,
                // The control plane restarts: the lease may outlive that.
                Err(GatewayError::ControlUnavailable) if core.world.clock.now() < expires => {}
                Err(GatewayError::ControlUnavailable) => return GatewayError::ControlUnavailable,
                Err(error) => return error,
            }
        }
    }

    /// Gives the intent up in the background; the lease's end does the same when this fails.
    fn abort(self, core: &Rc<Core>) {
        let (core_of_task, origin) = (core.clone(), self.origin());
        let abort = AbortIntent { manifest: self.manifest, put_token: self.put_token.0 };
        let task = async move {
            let answer = core_of_task.control.call_for(Request::AbortIntent(Box::new(abort)), origin).await;
            if let Err(error) = answer.and_then(|response| expect_done(&response)) {
                tracing::debug!(%error, "intent not aborted; its lease will end");
            }
        };
        core.world.tasks.spawn("abort intent", Box::pin(task));
    }
}

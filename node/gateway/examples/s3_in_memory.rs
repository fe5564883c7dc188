//! The S3 server over a core in memory, for trying clients against the front door alone: prints the four variables that
//! S3 clients read from their environment, and serves until it is killed.

#[path = "../tests/s3/fake_core.rs"]
mod fake_core;

use shingle_gateway::s3::{S3Options, S3Server, ServeError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ServeError> {
    let options = S3Options {
        listen: ([127, 0, 0, 1], 0).into(),
        access_key: "AKIDTESTTESTTESTTEST".into(),
        secret_key: "secretsecretsecretsecretsecretsecretsecr".into(),
        region: "us-east-1".into(),
    };
    let (access_key, secret_key, region) =
        (options.access_key.clone(), options.secret_key.clone(), options.region.clone());
    let server = S3Server::bind(options, fake_core::start(), 1).await?;
    println!("export AWS_ENDPOINT_URL=http://{}", server.local_address());
    println!("export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key} AWS_REGION={region}");
    server.run(std::future::pending()).await;
    Ok(())
}

//! The body of an error, as S3 writes it: Code, Message, Resource and RequestId, whoever refused. The S3 library leaves
//! out what it does not know; here every refusal gets the rest before it leaves.

use hyper::Response;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use s3s::Body;

use super::errors::RequestId;

/// Completes an error answer; anything else is left as it is.
pub fn complete(mut response: Response<Body>, resource: &str, id: &RequestId) -> Response<Body> {
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    // Errors are written whole; a body that streams is none.
    let old = response.body().bytes().unwrap_or_default();
    let old = String::from_utf8_lossy(&old);
    let code = element(&old, "Code").unwrap_or("InternalError");
    // Both are escaped already.
    let message = match element(&old, "Message") {
        Some(message) if !message.is_empty() => message,
        _ => message_of(code),
    };
    let (resource, request) = (escape(resource), escape(&id.0));
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <Resource>{resource}</Resource><RequestId>{request}</RequestId></Error>"
    );
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::from(body);
    response
}

/// The content of an element that holds text only.
fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(content, _)| content)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            character => escaped.push(character),
        }
    }
    escaped
}

/// What to say of the codes that the library gives without a word.
fn message_of(code: &str) -> &'static str {
    match code {
        "AccessDenied" => "Access Denied",
        "IncompleteBody" => "You did not provide the number of bytes specified by the Content-Length HTTP header.",
        "InternalError" => "We encountered an internal error. Please try again.",
        "InvalidBucketName" => "The specified bucket is not valid.",
        "InvalidDigest" => "The Content-MD5 you specified is not valid.",
        "InvalidRange" => "The requested range is not satisfiable",
        "InvalidURI" => "Couldn't parse the specified URI.",
        "KeyTooLongError" => "Your key is too long",
        "MalformedXML" => "The XML you provided was not well-formed or did not validate against our published schema",
        "MaxMessageLengthExceeded" => "Your request was too big.",
        "MethodNotAllowed" => "The specified method is not allowed against this resource.",
        "MissingContentLength" => "You must provide the Content-Length HTTP header.",
        "NotImplemented" => "A header or query you provided implies functionality that is not implemented.",
        "RequestTimeTooSkewed" => "The difference between the request time and the server's time is too large.",
        "SignatureDoesNotMatch" => {
            "The request signature we calculated does not match the signature you provided. Check your key and signing method."
        }
        _ => "The request was refused.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_kept_and_the_rest_is_added() {
        let answer = |body: &'static str| {
            let response = Response::builder().status(403).body(Body::from(body.to_owned()));
            let response = complete(response.unwrap(), "/b/a&b", &RequestId("7".into()));
            String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap()
        };
        let told = answer("<Error><Code>X</Code><Message>a &lt; b</Message></Error>");
        assert!(told.contains("<Code>X</Code><Message>a &lt; b</Message><Resource>/b/a&amp;b</Resource>"), "{told}");
        assert!(told.ends_with("<RequestId>7</RequestId></Error>"));
        assert!(answer("<Error><Code>AccessDenied</Code></Error>").contains("<Message>Access Denied</Message>"));
        assert!(answer("").contains("<Code>InternalError</Code>"));
    }
}

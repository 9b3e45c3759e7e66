//! A guestbook: one page, one SQLite database, no JavaScript.
//!
//! It is the application that `make run` puts under Stead, and knows nothing of Stead: it opens a database file
//! with ordinary SQLite, in whatever journal mode the file is in, and stops on SIGTERM. What makes it a good
//! guest is what makes any SQLite application one: a busy timeout, short transactions, and a redirect after each
//! write so that a page that was reloaded writes nothing twice.
//!
//! ```text
//! request → routes → entry (limits) → book (SQLite) → page (HTML) → reply
//! ```

mod arguments;
mod book;
mod entry;
mod page;
mod routes;

use arguments::Arguments;
use book::Book;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// The most that requests under way may still take after SIGTERM.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = match Arguments::from_process() {
        Ok(arguments) => arguments,
        Err(arguments::Refused::Help) => {
            print!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(refused) => {
            eprintln!("guestbook: {refused}\n\n{}", arguments::HELP);
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("guestbook: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM or SIGINT.
fn run(arguments: &Arguments) -> Result<(), String> {
    let book = Book::open(&arguments.database)
        .map_err(|e| format!("cannot open the database {}: {e}", arguments.database.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    let served = runtime.block_on(serve(book, arguments));
    runtime.shutdown_timeout(DRAIN_LIMIT);
    served
}

async fn serve(book: Book, arguments: &Arguments) -> Result<(), String> {
    // The handlers stand before the port is open: whoever waits for the port may send SIGTERM at once.
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|e| format!("cannot wait for SIGTERM: {e}"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| format!("cannot wait for SIGINT: {e}"))?;

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| format!("cannot listen on {address}: {e}; choose another port with --port or PORT"))?;
    let address = listener.local_addr().map_err(|e| format!("cannot listen on {address}: {e}"))?;
    println!("guestbook: http://{address}/ on {}", arguments.database.display());

    let (told, stopping) = oneshot::channel::<()>();
    let (asked, stop) = oneshot::channel::<()>();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => println!("guestbook: SIGTERM, stopping"),
            _ = interrupt.recv() => println!("guestbook: SIGINT, stopping"),
        }
        // Both ends live as long as the server; a closed one means that it has ended already.
        let _ = asked.send(());
        let _ = told.send(());
    });
    let server = axum::serve(listener, routes::router(book)).with_graceful_shutdown(async {
        let _ = stop.await;
    });
    tokio::select! {
        ended = async { server.await } => ended.map_err(|e| format!("the server failed: {e}")),
        () = async { let _ = stopping.await; tokio::time::sleep(DRAIN_LIMIT).await } => Ok(()),
    }
}

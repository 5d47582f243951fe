//! `inflate FILE…`: what decompressing alone takes, gzip or zstd, by the library that `rt-cri` uses, on as many threads as there are
//! cores. Prints seconds and bytes made. It hashes nothing and writes nothing.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn main() {
    let files = Mutex::new(std::env::args_os().skip(1).map(PathBuf::from).collect::<Vec<_>>());
    let made = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = files.lock().expect("no thread panics").pop();
                    let Some(file) = next else { break };
                    made.fetch_add(inflate(&file), Ordering::Relaxed);
                }
            });
        }
    });
    println!("{:.3} {}", started.elapsed().as_secs_f64(), made.into_inner());
}

fn inflate(path: &PathBuf) -> u64 {
    let open = || BufReader::with_capacity(64 << 10, File::open(path).expect("the file opens"));
    let mut magic = [0; 4];
    open().read_exact(&mut magic).expect("four bytes");
    let mut reader: Box<dyn Read> = match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(open())),
        _ => Box::new(zstd::stream::read::Decoder::with_buffer(open()).expect("a zstd stream")),
    };
    let mut buffer = vec![0; 128 << 10];
    let mut made = 0;
    loop {
        match reader.read(&mut buffer).expect("a sound stream") {
            0 => return made,
            count => made += count as u64,
        }
    }
}

//! `rt-cri`.

fn main() {
    eprintln!("rt-cri: not yet");
    std::process::exit(1);
}

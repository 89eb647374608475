//! Link options of the programs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux" || os == "android") {
        // The kernel maps a program's code by windows of 64 KiB around each fault. A program that may lie at any page
        // cuts them elsewhere at each start, and holds 0.3 MB more or less for it; one that lies at such a window
        // always holds the same. AArch64 links so by itself, and Android 15 asks for 16 KiB at least.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,max-page-size=65536");
    }
    // Functions of the same instructions are kept once: 50 KB. Of the linkers, the one that this target has unless told otherwise (LLD) knows
    // the option.
    let own = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let told = own("RUSTC_LINKER") || own("CARGO_ENCODED_RUSTFLAGS");
    if std::env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") && !told {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        // Cargo tells no build script whether panics abort; of this workspace's profiles they do in `release`.
        let out = std::env::var("OUT_DIR").map(std::path::PathBuf::from).unwrap_or_default();
        if out.ancestors().nth(3).is_some_and(|profile| profile.ends_with("release")) {
            let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
            println!("cargo:rerun-if-changed=no_unwind.ld");
            println!("cargo:rustc-link-arg-bins=-Wl,-T,{here}/no_unwind.ld");
        }
    }
}

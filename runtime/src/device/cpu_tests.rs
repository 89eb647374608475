//! Tests of the CPU probe against made-up systems.

use super::super::fixture::Fixture;
use super::*;

const MOUNTS: &str = "30 25 0:26 / /cg2 rw - cgroup2 cgroup2 rw\n\
                      31 25 0:27 / /cg1/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";

fn cpu(allowed: usize, quota: Option<(u64, u64)>) -> CpuInfo {
    let fixture = Fixture::new(&format!("cpu-{allowed}-{quota:?}").replace(['(', ')', ' ', ','], ""));
    let allowed: Vec<usize> = (0..allowed).collect();
    let quota =
        quota.map(|(quota_us, period_us)| CpuQuota { quota_us, period_us, source: "test".to_string() });
    CpuInfo { quota, ..CpuInfo::probe_in(&fixture.files(), &allowed) }
}

#[test]
fn quotas_round_down_to_whole_cpus_but_never_to_none() {
    for (quota, available) in [(150_000, 1), (199_999, 1), (200_000, 2), (10_000, 1), (900_000, 4)] {
        assert_eq!(cpu(4, Some((quota, 100_000))).available(), available, "{quota}");
    }
    assert_eq!(cpu(4, None).available(), 4);
    assert_eq!(cpu(0, None).available(), 1);
}

#[test]
fn the_tightest_quota_of_both_versions_wins() {
    let fixture = Fixture::new("quota");
    fixture.write("/proc/self/cgroup", "3:cpu,cpuacct:/job\n0::/apps/edge\n");
    fixture.write("/proc/self/mountinfo", MOUNTS);
    fixture.write("/cg2/apps/edge/cpu.max", "max 100000\n");
    fixture.write("/cg2/apps/cpu.max", "350000 100000\n");
    fixture.write("/cg1/cpu/job/cpu.cfs_quota_us", "-1\n");
    fixture.write("/cg1/cpu/job/cpu.cfs_period_us", "100000\n");
    let quota = CpuQuota::probe(&fixture.files()).unwrap();
    assert_eq!(quota.to_string(), "quota 3.50 CPUs by /cg2/apps/cpu.max");
    fixture.write("/cg1/cpu/cpu.cfs_quota_us", "125000\n");
    fixture.write("/cg1/cpu/cpu.cfs_period_us", "50000\n");
    let quota = CpuQuota::probe(&fixture.files()).unwrap();
    assert_eq!(quota.to_string(), "quota 2.50 CPUs by /cg1/cpu/cpu.cfs_quota_us");
    assert_eq!(quota.whole_cpus(), 2);
    fixture.write("/cg1/cpu/cpu.cfs_period_us", "0\n");
    assert_eq!(CpuQuota::probe(&fixture.files()).unwrap().source, "/cg2/apps/cpu.max");
}

#[test]
fn variables_override_or_lower_the_thread_count() {
    let cpu = cpu(8, Some((650_000, 100_000)));
    for (edge, omp, count, source) in [
        (None, None, 6, ThreadSource::Quota),
        (Some("12"), None, 12, ThreadSource::EdgeThreads),
        (Some(" 1 "), Some("4"), 1, ThreadSource::EdgeThreads),
        (None, Some("4,2"), 4, ThreadSource::OmpNumThreads),
        (None, Some("16"), 6, ThreadSource::Quota),
        (None, Some("0"), 6, ThreadSource::Quota),
        (None, Some("lots"), 6, ThreadSource::Quota),
    ] {
        let choice = cpu.choose_threads(edge, omp).unwrap();
        assert_eq!(choice, ThreadChoice { count, source }, "{edge:?} {omp:?}");
    }
    for value in ["0", "-2", "1.5", "many", "513", "99999999999999999999"] {
        let message = cpu.choose_threads(Some(value), None).unwrap_err().to_string();
        assert!(message.contains(&format!("EDGE_THREADS is `{value}`")), "{message}");
    }
}

#[test]
fn without_a_quota_every_allowed_cpu_gets_a_thread() {
    let choice = cpu(3, None).choose_threads(None, None).unwrap();
    assert_eq!(choice.to_string(), "3 (one for each allowed CPU)");
    assert_eq!(cpu(4_000, None).choose_threads(None, None).unwrap().count, MAX_THREADS);
}

#[test]
fn caches_come_from_the_first_allowed_cpu_or_are_assumed() {
    let fixture = Fixture::new("caches");
    assert_eq!(Caches::probe(&fixture.files(), 0), Caches::ASSUMED);
    let entries = [
        ("0", "1", "Data", "48K"),
        ("1", "1", "Instruction", "32K"),
        ("2", "2", "Unified", "1280K"),
        ("3", "3", "Unified", "8M"),
    ];
    for (index, level, kind, size) in entries {
        let dir = format!("/sys/devices/system/cpu/cpu4/cache/index{index}");
        fixture.write(&format!("{dir}/level"), &format!("{level}\n"));
        fixture.write(&format!("{dir}/type"), &format!("{kind}\n"));
        fixture.write(&format!("{dir}/size"), &format!("{size}\n"));
    }
    let caches = Caches::probe(&fixture.files(), 4);
    assert_eq!(caches, Caches { l1d: 48 << 10, l2: 1280 << 10, l3: Some(8 << 20), measured: true });
    assert_eq!(CpuInfo::probe_in(&fixture.files(), &[4, 5]).caches, caches);
    for broken in ["", "K", "0K", "-4K", "99999999999999999999M", "18446744073709551615K", "1µ"] {
        assert_eq!(parse_cache_size(broken), None, "{broken}");
    }
}

#[test]
fn the_model_name_is_the_best_the_system_has() {
    let fixture = Fixture::new("model");
    assert_eq!(model_name(&fixture.files()), None);
    fixture.write("/proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n");
    assert_eq!(model_name(&fixture.files()).unwrap(), "implementer 0x41, part 0xd0b");
    fixture.write("/sys/firmware/devicetree/base/model", "Board 5 Model B\0");
    assert_eq!(model_name(&fixture.files()).unwrap(), "Board 5 Model B");
    fixture.write("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Other\n");
    assert_eq!(model_name(&fixture.files()).unwrap(), "Some CPU @ 2 GHz");
}

#[test]
fn isa_names_are_checked_against_this_cpu() {
    assert_eq!(choose_isa(None).unwrap(), Isa::detect());
    assert_eq!(choose_isa(Some("scalar")).unwrap(), Isa::Scalar);
    let unknown = choose_isa(Some("sse9")).unwrap_err().to_string();
    assert!(unknown.contains("EDGE_ISA is `sse9`") && unknown.contains("scalar"), "{unknown}");
    let foreign = if cfg!(target_arch = "aarch64") { Isa::Avx2 } else { Isa::Neon };
    let unsupported = choose_isa(Some(foreign.name())).unwrap_err().to_string();
    assert!(unsupported.contains(foreign.name()) && unsupported.contains("scalar"), "{unsupported}");
}

#[test]
fn this_machine_is_described() {
    let cpu = CpuInfo::probe();
    assert!(cpu.allowed >= 1 && cpu.available() >= 1);
    assert!(cpu.to_string().starts_with("CPU: "), "{cpu}");
}

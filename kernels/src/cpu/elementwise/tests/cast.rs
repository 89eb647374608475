use super::*;

#[test]
fn select_broadcasts_all_three() {
    let shapes: &[([&[usize]; 3], &[usize])] = &[
        ([&[7], &[7], &[7]], &[7]),
        ([&[1], &[3, 2], &[2]], &[3, 2]),
        ([&[3, 1], &[3, 4], &[4]], &[3, 4]),
        ([&[3, 4], &[1], &[3, 1]], &[3, 4]),
        ([&[4], &[3, 4], &[]], &[3, 4]),
        ([&[2, 1, 3], &[4, 1], &[1, 1, 3]], &[2, 4, 3]),
        ([&[0], &[1], &[1]], &[0]),
    ];
    for &([c, a, b], out) in shapes {
        let shape = Broadcast::new([c, a, b]).unwrap();
        let cond: Vec<u8> = (0..len(c)).map(|i| (i % 3) as u8).collect();
        let x: Vec<u64> = (0..len(a) as u64).collect();
        let y: Vec<u64> = (100..100 + len(b) as u64).collect();
        let mut got = vec![0; len(out)];
        select(&shape, &cond, &x, &y, &mut got);
        for (i, got) in got.iter().enumerate() {
            let pick = cond[source(i, out, c)] != 0;
            let want = if pick { x[source(i, out, a)] } else { y[source(i, out, b)] };
            assert_eq!(*got, want, "{c:?} {a:?} {b:?} at {i}");
        }
    }
}

#[test]
fn casts_saturate_round_and_wrap_as_stated() {
    let x = [1.9f32, -1.9, 300.0, -300.0, f32::NAN, f32::INFINITY, 3e9, 0.0];
    let mut i8s = [0i8; 8];
    cast(Elements::F32(&x), ElementsMut::I8(&mut i8s));
    assert_eq!(i8s, [1, -1, 127, -128, 0, 127, 127, 0]);
    let mut u8s = [0u8; 8];
    cast(Elements::F32(&x), ElementsMut::U8(&mut u8s));
    assert_eq!(u8s, [1, 0, 255, 0, 0, 255, 255, 0]);
    let mut i32s = [0i32; 8];
    cast(Elements::F32(&x), ElementsMut::I32(&mut i32s));
    assert_eq!(i32s, [1, -1, 300, -300, 0, i32::MAX, i32::MAX, 0]);
    cast(Elements::F32(&x), ElementsMut::Bool(&mut u8s));
    assert_eq!(u8s, [1, 1, 1, 1, 1, 1, 1, 0]);
    cast(Elements::I32(&[-1, 256, 257, -129, 0, 1, 2, 3]), ElementsMut::I8(&mut i8s));
    assert_eq!(i8s, [-1, 0, 1, 127, 0, 1, 2, 3]);

    let mut halves = [0u16; 8];
    cast(Elements::F32(&x), ElementsMut::F16(&mut halves));
    assert_eq!([halves[0], halves[2], halves[5], halves[6]], [0x3f9a, 0x5cb0, 0x7c00, 0x7c00]);
    let mut back = [0f32; 8];
    cast(Elements::F16(&halves), ElementsMut::F32(&mut back));
    assert_eq!([back[0], back[2]], [1.900_390_6, 300.0]);
    cast(Elements::F32(&x), ElementsMut::Bf16(&mut halves));
    cast(Elements::Bf16(&halves), ElementsMut::F32(&mut back));
    assert_eq!([back[0], back[2]], [1.898_437_5, 300.0]);

    // An integer just above the middle of two bf16 values by less than f64 can see: one rounding, upwards.
    let middle = (1i64 << 62) + (1 << 54) + 1;
    let mut b = [0u16; 1];
    cast(Elements::I64(&[middle]), ElementsMut::Bf16(&mut b));
    assert_eq!(half::bf16::from_bits(b[0]).to_f64(), (1i64 << 62) as f64 * (1.0 + 1.0 / 128.0));
    // The same from f64, at f16's smallest steps, and at its largest number.
    let tiny = f64::exp2(-25.0);
    let x = [
        tiny * (1.0 + f64::EPSILON),
        tiny,
        -tiny * 3.0,
        65_519.999_999_999,
        65_520.0,
        1e300,
        f64::MIN_POSITIVE,
    ];
    let mut h = [0u16; 7];
    cast(Elements::F64(&x), ElementsMut::F16(&mut h));
    assert_eq!(h, [1, 0, 0x8002, 0x7bff, 0x7c00, 0x7c00, 0]);
    let mut f = [0f32; 1];
    cast(Elements::I64(&[(1 << 53) + (1 << 29) + 1]), ElementsMut::F32(&mut f));
    assert_eq!(f[0], ((1i64 << 53) + (1 << 30)) as f32);
}

#[test]
fn every_pair_of_types_casts_small_numbers_exactly() {
    let n = 130;
    let source: Vec<f32> = (0..n).map(|i| (i % 100) as f32).collect();
    let (mut f64s, mut f32s, mut h, mut b) = (vec![0f64; n], vec![0f32; n], vec![0u16; n], vec![0u16; n]);
    let (mut i64s, mut i32s, mut i16s, mut i8s) = (vec![0i64; n], vec![0i32; n], vec![0i16; n], vec![0i8; n]);
    let (mut u32s, mut u16s, mut u8s) = (vec![0u32; n], vec![0u16; n], vec![0u8; n]);
    cast(Elements::F32(&source), ElementsMut::F64(&mut f64s));
    cast(Elements::F64(&f64s), ElementsMut::F16(&mut h));
    cast(Elements::F16(&h), ElementsMut::I64(&mut i64s));
    cast(Elements::I64(&i64s), ElementsMut::Bf16(&mut b));
    cast(Elements::Bf16(&b), ElementsMut::I16(&mut i16s));
    cast(Elements::I16(&i16s), ElementsMut::U32(&mut u32s));
    cast(Elements::U32(&u32s), ElementsMut::U16(&mut u16s));
    cast(Elements::U16(&u16s), ElementsMut::I8(&mut i8s));
    cast(Elements::I8(&i8s), ElementsMut::U8(&mut u8s));
    cast(Elements::U8(&u8s), ElementsMut::I32(&mut i32s));
    cast(Elements::I32(&i32s), ElementsMut::F32(&mut f32s));
    assert_eq!(f32s, source);
    let mut bools = vec![0u8; n];
    cast(Elements::I16(&i16s), ElementsMut::Bool(&mut bools));
    cast(Elements::Bool(&bools), ElementsMut::F32(&mut f32s));
    assert!(f32s.iter().zip(&source).all(|(got, x)| *got == f32::from(u8::from(*x != 0.0))));
}

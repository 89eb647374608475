use super::*;

/// A table without a pattern, and bytes that reach all of it.
fn table() -> Table {
    std::array::from_fn(|i| (i.wrapping_mul(167) ^ (i >> 3)) as i8)
}

#[test]
fn every_variant_looks_up_every_byte_at_every_length_and_offset() {
    let table = table();
    for variant in VARIANTS {
        if !variant.supported() {
            println!("{}: skipped", variant.name);
            continue;
        }
        println!("{}", variant.name);
        for n in (0..=140).chain([256, 1000]) {
            for offset in [0, 1, 7] {
                let x: Vec<i8> = (0..offset + n).map(|i| (i * 91 + n) as u8 as i8).collect();
                let want: Vec<i8> = x[offset..].iter().map(|x| table[usize::from(*x as u8)]).collect();
                let mut y = vec![77; n + offset + 3];
                variant.run(&table, InOut::Apart(&x[offset..], &mut y[offset..offset + n]));
                assert_eq!(y[offset..offset + n], want, "{} of {n} bytes", variant.name);
                assert!(y[..offset].iter().chain(&y[offset + n..]).all(|y| *y == 77), "{}", variant.name);
                let mut y = x.clone();
                variant.run(&table, InOut::InPlace(&mut y[offset..]));
                assert_eq!(y[offset..], want, "{} of {n} bytes in place", variant.name);
            }
        }
    }
}

#[test]
#[should_panic(expected = "differ in length")]
fn buffers_of_different_lengths_are_refused() {
    select(Isa::detect()).run(&table(), InOut::Apart(&[0; 3], &mut [0; 4]));
}

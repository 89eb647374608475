//! Pickles by hand: what no library writes.

use super::{Fault, Object, read};

fn fault(bytes: &[u8]) -> String {
    match read(bytes, 0) {
        Err(Fault::Format { why, .. }) => why,
        Err(Fault::Global { name, why, .. }) => format!("{name}: {why}"),
        Ok(_) => panic!("{bytes:?} is read"),
    }
}

fn root(bytes: &[u8]) -> Object {
    let pickle = read(bytes, 0).unwrap();
    assert_eq!(pickle.end, bytes.len());
    pickle.objects[pickle.root as usize].clone()
}

#[test]
fn constants_of_every_protocol_are_read() {
    let int = |bytes: &[u8]| match root(bytes) {
        Object::Int(n) => n,
        other => panic!("{other:?}"),
    };
    assert_eq!(int(b"K\xff."), 255);
    assert_eq!(int(b"M\x01\x02."), 513);
    assert_eq!(int(b"J\xfe\xff\xff\xff."), -2);
    assert_eq!(int(b"I-12\n."), -12);
    assert_eq!(int(b"L-12L\n."), -12);
    assert_eq!(int(b"\x8a\x00."), 0);
    assert_eq!(int(b"\x8a\x01\x80."), -128);
    assert_eq!(int(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."), 0x1950_a86a_20f9_469c_fc6c);
    assert!(matches!(root(b"I01\n."), Object::Bool(true)));
    assert!(matches!(root(b"F1.5\n."), Object::Float(1.5)));
    assert!(matches!(root(b"G\x3f\xf8\0\0\0\0\0\0."), Object::Float(1.5)));
    for text in
        [&b"S'ab'\n."[..], b"U\x02ab.", b"T\x02\0\0\0ab.", b"Vab\n.", b"X\x02\0\0\0ab.", b"\x8c\x02ab."]
    {
        assert!(matches!(root(text), Object::Str(text) if text == "ab"));
    }
}

#[test]
fn what_no_checkpoint_asks_for_is_refused() {
    for (bytes, why) in [
        (&b"cos\nsystem\n."[..], "os.system: a checkpoint must hold tensors only"),
        (b"cbuiltins\neval\n.", "builtins.eval: "),
        (b"\x8c\x02os\x8c\x06system\x93.", "os.system: "),
        (b"c__builtin__\nexec\nU\x01x\x85R.", "__builtin__.exec: "),
        (b"ctorch\nload\n.", "torch.load: "),
        (b"ctorch._utils\n_rebuild_sparse_tensor\n.", "save tensor.to_dense()"),
        (b"(ios\nsystem\n.", "an object of a class"),
        (b"\x82\x01.", "opcode 0x82 reaches outside"),
        (b"\x97.", "opcode 0x97 reaches outside"),
        (b"\xff.", "opcode 0xff is unknown"),
        (b"\x80\x06.", "pickle protocol 6"),
        (b"h\x05.", "entry 5 of the memo is not there"),
        (b".", "empty stack"),
        (b"(0.", "empty stack"),
        (b"(K\x01(0", "empty stack"),
        (b"e.", "a mark that is not there"),
        (b"K\x01K\x02a.", "items are added to what is no list"),
        (b"}(K\x01u.", "a key that has no value"),
        (b"K\x01)R.", "a call of what is no global"),
        (b"\x8a\x20................................", "an integer of 32 bytes"),
        (b"X\xff\xff\xff\xff", "ends 4294967295 bytes short"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "ends 18446744073709551615 bytes short"),
        (b"X\x01\0\0\0\xff.", "a string that is no UTF-8"),
        (b"ccollections\nOrderedDict\nK\x01\x85R.", "a dictionary of what is no list of pairs"),
        (b"ctorch._utils\n_rebuild_tensor_v2\nK\x01\x85R.", "a tensor of 1 arguments"),
        (b"K\x01Q.", "an outside object that is no storage"),
    ] {
        let found = fault(bytes);
        assert!(found.contains(why), "{}: {found}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn objects_that_hold_themselves_or_lie_deep_cost_nothing() {
    // A list whose only item is itself.
    assert!(matches!(root(b"]q\0h\0a."), Object::List(items) if items.len() == 1));
    let deep: Vec<u8> = [vec![b']'; 1_000_000], vec![b'a'; 999_999], b".".to_vec()].concat();
    assert!(matches!(root(&deep), Object::List(_)));
    // One list of a thousand pairs, made a dictionary over and over: a call of six bytes would copy all of it.
    let mut bomb = b"ccollections\nOrderedDict\nq\0](".to_vec();
    bomb.extend(b"K\x01K\x01\x86".repeat(1000));
    bomb.extend(b"e\x85q\x01");
    bomb.extend(b"0h\0h\x01R".repeat(10_000));
    bomb.push(b'.');
    assert!(fault(&bomb).contains("entries"));
}

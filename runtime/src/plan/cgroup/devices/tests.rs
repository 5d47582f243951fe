//! The program, run by a small interpreter of BPF, must say what the rules say.

use serde_json::json;

use super::*;

fn rules(rules: serde_json::Value) -> Vec<DeviceRule> {
    serde_json::from_value(rules).unwrap()
}

fn compiled(list: serde_json::Value) -> DeviceProgram {
    DeviceProgram::compile(&rules(list)).unwrap()
}

/// Runs it as the kernel would, and checks that every jump goes forward and stays inside.
fn run(program: &[u64], access: u8, kind: u32, numbers: (u32, u32)) -> bool {
    let context = [u32::from(access) << 16 | kind, numbers.0, numbers.1];
    let mut registers = [0u32; 11];
    let mut at = 0;
    loop {
        let word = program[at];
        let (to, from) = ((word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
        let (offset, constant) = ((word >> 16) as u16 as i16, (word >> 32) as u32);
        let mut jump = false;
        match word as u8 {
            LOAD_WORD => registers[to] = context[offset as usize / 4],
            MOV32 => registers[to] = registers[from],
            MOV32_CONST => registers[to] = constant,
            AND32_CONST => registers[to] &= constant,
            SHIFT_RIGHT32_CONST => registers[to] >>= constant,
            JUMP => jump = true,
            JUMP_EQUAL32 => jump = registers[to] == constant,
            JUMP_NOT_EQUAL32 => jump = registers[to] != constant,
            JUMP_ANY_BIT32 => jump = registers[to] & constant != 0,
            EXIT => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        }
        assert!(offset >= 0);
        assert!(!jump || at + 1 + (offset as usize) < program.len());
        at += 1 + if jump { offset as usize } else { 0 };
    }
}

/// The rules read one by one from the first, each access for itself; then the defaults.
fn oracle(list: &[DeviceRule], access: u8, kind: u32, numbers: (u32, u32)) -> bool {
    let mut allowed = 0u8;
    let checked = list.iter().enumerate().filter_map(|(at, rule)| Rule::plan(at, rule).unwrap());
    for rule in checked.chain(DEFAULTS) {
        let named = match rule.kind {
            Type::Any => true,
            Type::Block => kind == 1,
            Type::Char => kind == 2,
        };
        let same = |mine: Option<u32>, theirs: u32| mine.is_none_or(|mine| mine == theirs);
        if named && same(rule.major, numbers.0) && same(rule.minor, numbers.1) {
            allowed = if rule.allow { allowed | rule.access } else { allowed & !rule.access };
        }
    }
    access & !allowed == 0
}

fn check(list: &[DeviceRule]) {
    let program = DeviceProgram::compile(list).unwrap();
    for kind in [1, 2] {
        for major in [0, 1, 5, 8, 10, 136, 253, u32::MAX] {
            for minor in [0, 1, 2, 3, 5, 229, 1 << 20] {
                for access in 1..=7 {
                    let numbers = (major, minor);
                    assert_eq!(
                        run(&program.instructions, access, kind, numbers),
                        oracle(list, access, kind, numbers),
                        "{list:?}: {kind} {numbers:?} {access}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_program_says_what_the_rules_say() {
    for list in [
        json!([]),
        json!([{ "allow": false, "access": "rwm" }]),
        json!([{ "allow": true, "access": "rwm" }]),
        json!([{ "allow": true, "access": "rwm" }, { "allow": false, "type": "b", "access": "w" }]),
        json!([{ "allow": true, "access": "rw" }, { "allow": false, "type": "c", "major": 10, "access": "w" }]),
        json!([
            { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "r" },
            { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "w" },
        ]),
        json!([{ "allow": true, "type": "a", "major": 8, "access": "rwm" }]),
        json!([{ "allow": false, "type": "c", "major": 1, "minor": 3, "access": "rwm" }]),
        json!([{ "allow": true, "type": "p", "access": "rwm" }]),
    ] {
        check(&rules(list));
    }
}

/// A few thousand lists made by a small generator of numbers, always the same ones.
#[test]
fn random_rules_too() {
    let mut seed = 1u64;
    let mut pick = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % n
    };
    for _ in 0..1000 {
        let list: Vec<_> = (0..pick(9))
            .map(|_| {
                let number = |n: u64| if n == 0 { None } else { Some([-1, 1, 3, 5, 8, 10, 229][n as usize]) };
                DeviceRule {
                    allow: pick(2) == 0,
                    kind: Some(["a", "b", "c"][pick(3) as usize].into()),
                    major: number(pick(7)),
                    minor: number(pick(7)),
                    access: Some(["r", "w", "m", "rw", "rm", "wm", "rwm"][pick(7) as usize].into()),
                }
            })
            .collect();
        check(&list);
    }
}

#[test]
fn rules_that_decide_nothing_are_left_out() {
    let docker = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "access": "m" },
        { "allow": true, "type": "b", "access": "m" },
        { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" },
    ]);
    let text: Vec<_> = compiled(docker).rules().iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "allow a *:* m",
            "allow c 1:3 rwm",
            "allow c 1:5 rwm",
            "allow c 1:7 rwm",
            "allow c 1:8 rwm",
            "allow c 1:9 rwm",
            "allow c 5:0 rwm",
            "allow c 5:2 rwm",
            "allow c 136:* rwm",
            "allow c 10:229 rw",
        ]
    );
}

#[test]
fn a_privileged_container_needs_no_program() {
    assert!(compiled(json!([{ "allow": false }, { "allow": true, "access": "rwm" }])).allows_all());
    assert!(!compiled(json!([{ "allow": true, "access": "rw" }])).allows_all());
    assert!(!compiled(json!([{ "allow": true }, { "allow": false, "type": "b", "major": 8 }])).allows_all());
    assert!(!compiled(json!([])).allows_all());
}

#[test]
fn wrong_rules_are_named() {
    for (rule, text) in [
        (json!({ "type": "x" }), "linux.resources.devices[1].type: unknown type \"x\" (it is a, b or c)"),
        (json!({ "major": -2 }), "linux.resources.devices[1].major -2 is no device number"),
        (
            json!({ "minor": 4294967296u64 }),
            "linux.resources.devices[1].minor 4294967296 is no device number",
        ),
        (
            json!({ "access": "rx" }),
            "linux.resources.devices[1].access: unknown letter 'x' (the letters are r, w and m)",
        ),
    ] {
        let error = DeviceProgram::compile(&rules(json!([{ "allow": true }, rule]))).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
}

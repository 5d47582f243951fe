//! The rules of a profile, checked, as cases: conditions that must all hold, and the action then.
//!
//! Says nothing about which system calls a case is for, nor which of several cases wins: that is [`super::decisions`].

use std::cmp::Ordering;
use std::fmt::Arguments;

use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::words;
use crate::error::{Error, Result};
use crate::spec::{SyscallArg, SyscallRule};

/// Cases of a system call beyond which no program can fit.
pub const MOST_CASES: usize = 4096;

/// A comparison of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub operator: Operator,
    /// With what; of [`Operator::MaskedEqual`] already masked.
    pub value: u64,
}

/// How an argument is compared, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Is not the value.
    NotEqual,
    /// Is below it.
    Less,
    /// Is it, or below.
    AtMost,
    /// Is it.
    Equal,
    /// Is it, or above.
    AtLeast,
    /// Is above it.
    Greater,
    /// Is it in the bits of the mask.
    MaskedEqual(u64),
}

/// Conditions that must all hold, and the action then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The filter's return value.
    pub action: u32,
    /// At most one for each argument, by argument.
    pub conditions: Vec<Condition>,
    /// Which rule of the profile it comes from.
    pub rule: usize,
}

/// The cases of a rule with arguments: all of them in one; where two are about the same argument, one case for each, as runc does.
pub fn of_rule(rule: usize, action: u32, spec: &SyscallRule, cases: &mut Vec<Case>) -> Result<()> {
    if spec.args.len() > MOST_CASES {
        return Err(super::too_large());
    }
    let mut conditions = Vec::with_capacity(spec.args.len());
    let mut seen = 0_u8;
    let mut repeated = false;
    for (at, arg) in spec.args.iter().enumerate() {
        let place = format_args!("linux.seccomp.syscalls[{rule}].args[{at}]");
        let condition = Condition::new(arg, place)?;
        repeated |= seen & 1 << condition.index != 0;
        seen |= 1 << condition.index;
        conditions.push(condition);
    }
    if repeated {
        cases.extend(conditions.into_iter().map(|one| Case { action, conditions: vec![one], rule }));
    } else {
        conditions.sort_unstable_by_key(|condition| condition.index);
        cases.push(Case { action, conditions, rule });
    }
    Ok(())
}

impl Case {
    /// The same case for a call that is made through another: the first argument tells the call, the others stay.
    pub fn multiplexed(&self, call: u8) -> Self {
        let first = Condition { index: 0, operator: Operator::Equal, value: call.into() };
        let others = self.conditions.iter().filter(|condition| condition.index != 0);
        Self { conditions: std::iter::once(first).chain(others.copied()).collect(), ..*self }
    }

    /// Whether nothing is left of it to check, as with a mask of zeros: then it is no condition, as for libseccomp.
    pub fn always_holds(&self, is_wide: bool) -> bool {
        self.checked(is_wide).next().is_none()
    }

    /// Whether both stand for the same arguments.
    pub fn is_same(&self, other: &Self, is_wide: bool) -> bool {
        self.checked(is_wide).eq(other.checked(is_wide))
    }

    /// Whether `self` is tried before (`Less`) or after `other`; see [`super::decisions`].
    pub fn order(&self, other: &Self, is_wide: bool) -> Ordering {
        let pairs = self.checked(is_wide).zip(other.checked(is_wide));
        let mut orders = pairs.map(|(a, b)| b.weight(is_wide).cmp(&a.weight(is_wide)));
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// The argument and its value, where that is all that the case asks for.
    pub fn equality(&self, is_wide: bool) -> Option<(u8, u64)> {
        let mut checked = self.checked(is_wide);
        match (checked.next(), checked.next()) {
            (Some(&Condition { index, operator: Operator::Equal, value }), None) => {
                Some((index, cut(value, is_wide)))
            }
            _ => None,
        }
    }

    /// Whether both ask for values of one argument with the same upper half, and do the same then.
    pub fn is_alike(&self, other: &Self, is_wide: bool) -> bool {
        let upper = |case: &Self| case.equality(is_wide).map(|(index, value)| (index, value >> 32));
        upper(self).is_some() && upper(self) == upper(other) && self.action == other.action
    }

    /// seccompiler's program for the conditions: it runs off its end when they hold, and skips one instruction more when not.
    pub fn fragment(&self, is_wide: bool) -> Result<Vec<seccompiler::sock_filter>> {
        let conditions = self.checked(is_wide).map(|c| c.compile(is_wide)).collect::<Result<Vec<_>>>()?;
        let rule = SeccompRule::new(conditions).map_err(|e| foreign(&e))?;
        Ok(rule.into())
    }

    /// The conditions that can fail.
    fn checked(&self, is_wide: bool) -> impl Iterator<Item = &Condition> {
        let holds = move |condition: &&Condition| match condition.operator {
            Operator::MaskedEqual(mask) => cut(mask, is_wide) != 0,
            _ => true,
        };
        self.conditions.iter().filter(holds)
    }
}

impl Condition {
    fn new(arg: &SyscallArg, place: Arguments<'_>) -> Result<Self> {
        let (operator, value) = match arg.op.as_str() {
            "SCMP_CMP_NE" => (Operator::NotEqual, arg.value),
            "SCMP_CMP_LT" => (Operator::Less, arg.value),
            "SCMP_CMP_LE" => (Operator::AtMost, arg.value),
            "SCMP_CMP_EQ" => (Operator::Equal, arg.value),
            "SCMP_CMP_GE" => (Operator::AtLeast, arg.value),
            "SCMP_CMP_GT" => (Operator::Greater, arg.value),
            "SCMP_CMP_MASKED_EQ" => (Operator::MaskedEqual(arg.value), arg.value_two & arg.value),
            other => {
                return Err(words::unknown(format_args!("{place}.op"), "operator", other, words::OPERATORS));
            }
        };
        match u8::try_from(arg.index) {
            Ok(index @ 0..=5) => Ok(Self { index, operator, value }),
            _ => Err(Error::invalid(format!("{place}.index: {} is not in 0..=5", arg.index))),
        }
    }

    /// What libseccomp orders conditions by: the higher is tried first.
    fn weight(self, is_wide: bool) -> (u8, u8, u64) {
        let value = cut(self.value, is_wide);
        match self.operator {
            Operator::Equal | Operator::NotEqual | Operator::MaskedEqual(_) => (self.index, 3, value),
            Operator::Less | Operator::AtMost => (self.index, 2, !value),
            Operator::Greater | Operator::AtLeast => (self.index, 1, value),
        }
    }

    fn compile(self, is_wide: bool) -> Result<SeccompCondition> {
        let length = if is_wide { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
        let operator = match self.operator {
            Operator::NotEqual => SeccompCmpOp::Ne,
            Operator::Less => SeccompCmpOp::Lt,
            Operator::AtMost => SeccompCmpOp::Le,
            Operator::Equal => SeccompCmpOp::Eq,
            Operator::AtLeast => SeccompCmpOp::Ge,
            Operator::Greater => SeccompCmpOp::Gt,
            Operator::MaskedEqual(mask) => SeccompCmpOp::MaskedEq(mask),
        };
        SeccompCondition::new(self.index, length, operator, self.value).map_err(|e| foreign(&e))
    }
}

/// What an argument of the architecture's width can hold of a value.
fn cut(value: u64, is_wide: bool) -> u64 {
    if is_wide { value } else { value & u64::from(u32::MAX) }
}

fn foreign(error: &seccompiler::BackendError) -> Error {
    Error::new(crate::Kind::Internal, format!("compile a seccomp condition: {error}"))
}

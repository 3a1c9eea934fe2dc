//! A backend that takes every tensor and keeps none: whether a folder can be loaded, without loading it.

use std::convert::Infallible;

use weights::Tensor;

use crate::backend::{Backend, Expert, HostCode, LogitShape};
use crate::batch::{Batch, CacheShape};
use crate::mixers::Attn;
use crate::moe::Choice;
use crate::rope::Rotation;
use crate::spec::{Act, Norm};
use crate::{Error, Result};

/// It holds no activations, so nothing can be computed with it.
pub(super) struct Hollow;

fn empty<T>() -> Result<T> {
    Err(Error::Backend { backend: "loader", message: "weights that were only looked at cannot run".into() })
}

impl Backend for Hollow {
    type Rows = Infallible;
    type Linear = ();
    type Norm = ();
    type Cache = Infallible;
    type Step = Infallible;

    fn linear(&self, _: &Tensor, _: Option<Vec<f32>>) -> Result<()> {
        Ok(())
    }

    fn norm(&self, _: Norm, _: Vec<f32>, _: Option<Vec<f32>>, _: usize) -> Result<()> {
        Ok(())
    }

    fn cache(&self, _: &Attn, _: CacheShape) -> Result<Infallible> {
        empty()
    }

    fn cache_bytes(&self, _: &Attn) -> usize {
        0
    }

    fn step(&self, _: &Batch, _: Vec<Rotation>) -> Result<Infallible> {
        empty()
    }

    fn embed(&self, _: &(), _: &[u32], _: f32) -> Result<Infallible> {
        empty()
    }

    fn project(&self, x: &Infallible, _: Option<&()>, _: &[&()]) -> Result<Vec<Infallible>> {
        match *x {}
    }

    fn by_head(&self, x: &Infallible, _: &[()]) -> Result<Infallible> {
        match *x {}
    }

    fn normed(&self, x: &Infallible, _: &()) -> Result<Infallible> {
        match *x {}
    }

    fn scale(&self, x: &mut Infallible, _: f32) -> Result<()> {
        match *x {}
    }

    fn rotate(&self, x: &mut Infallible, _: usize, _: usize, _: &Infallible) -> Result<()> {
        match *x {}
    }

    fn attend(
        &self,
        q: Infallible,
        _: Option<(Infallible, Infallible)>,
        _: &Attn,
        _: Option<&[f32]>,
        _: &mut Infallible,
        _: &Infallible,
    ) -> Result<Infallible> {
        match q {}
    }

    fn glu(&self, x: &Infallible, _: Option<&()>, _: &(), _: &(), _: Act) -> Result<Infallible> {
        match *x {}
    }

    fn mlp(&self, x: &Infallible, _: Option<&()>, _: &(), _: Act) -> Result<Infallible> {
        match *x {}
    }

    fn experts(&self, x: &Infallible, _: &Choice, _: &[Expert<()>], _: Act) -> Result<Infallible> {
        match *x {}
    }

    fn add(&self, x: &mut Infallible, _: &Infallible, _: Option<&()>, _: Option<&()>, _: f32) -> Result<()> {
        match *x {}
    }

    fn logits(&self, x: &Infallible, _: &[u32], _: &(), _: &(), _: LogitShape) -> Result<Vec<f32>> {
        match *x {}
    }

    fn host(&self, inputs: &[&Infallible], _: usize, _: &mut HostCode<'_>) -> Result<Infallible> {
        inputs.first().map_or_else(empty, |x| match **x {})
    }

    fn fetch(&self, x: &Infallible) -> Result<Vec<f32>> {
        match *x {}
    }
}

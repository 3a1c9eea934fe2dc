//! Search, download and keep models of the Hugging Face Hub.

//! What could not be rendered, told as a Director tells it: group, job, template, one below the other.

use std::fmt;

/// All templates that failed, of all groups. Of each group only the first instance that failed is told:
/// its siblings nearly always fail alike.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RenderErrors {
    groups: Vec<(String, Vec<FailedJob>)>,
}

/// A job that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FailedJob {
    /// Its `monit` file did; its templates were not tried.
    Monit(String),
    /// Some of its templates did.
    Templates {
        /// Name of the job.
        job: String,
        /// One text per template.
        faults: Vec<String>,
    },
}

impl RenderErrors {
    /// Whether nothing failed.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn add(&mut self, group: &str, failed: Vec<FailedJob>) {
        if !self.groups.iter().any(|(known, _)| known == group) {
            self.groups.push((group.to_owned(), failed));
        }
    }
}

impl fmt::Display for RenderErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unable to render instance groups for deployment. Errors are:")?;
        for (group, jobs) in &self.groups {
            write!(f, "\n  - Unable to render jobs for instance group '{group}'. Errors are:")?;
            for job in jobs {
                match job {
                    FailedJob::Monit(fault) => write!(f, "\n{}", indented(4, fault))?,
                    FailedJob::Templates { job, faults } => {
                        write!(f, "\n    - Unable to render templates for job '{job}'. Errors are:")?;
                        for fault in faults {
                            write!(f, "\n{}", indented(6, &format!("- {}", fault.trim())))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for RenderErrors {}

/// Every line of `text`, moved right.
fn indented(by: usize, text: &str) -> String {
    let margin = " ".repeat(by);
    text.lines().map(|line| format!("{margin}{line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_all_groups_and_jobs_are_told_together() {
        let templates = |job: &str, faults: &[&str]| FailedJob::Templates {
            job: job.into(),
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
        };
        let mut errors = RenderErrors::default();
        errors.add("etcd", vec![templates("etcd", &["one", "two\nlines"]), templates("other", &["three"])]);
        errors.add("etcd", vec![templates("etcd", &["the next instance's"])]);
        errors.add("client", vec![FailedJob::Monit("four".into())]);

        let expected = "\
Unable to render instance groups for deployment. Errors are:
  - Unable to render jobs for instance group 'etcd'. Errors are:
    - Unable to render templates for job 'etcd'. Errors are:
      - one
      - two
      lines
    - Unable to render templates for job 'other'. Errors are:
      - three
  - Unable to render jobs for instance group 'client'. Errors are:
    four";
        assert_eq!(errors.to_string(), expected);
    }
}

//! The derive macro of `tine::shared::Plain`.

#![forbid(unsafe_code)]

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::spanned::Spanned as _;
use syn::{Data, DeriveInput, Error, Fields, Type, Variant, parse_macro_input};

/// Implements `Plain` for a struct or an enum whose fields are all `Plain`. The type must be
/// `Copy`, too.
///
/// A value of an enum takes a word for its variant, and then as many as the longest variant needs.
/// A number that stands for no variant is read as the first one: only a process that writes beside
/// the library can leave such a number.
#[proc_macro_derive(Plain)]
pub fn plain(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    implement(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn implement(input: &DeriveInput) -> Result<TokenStream, Error> {
    let (words, put, take) = match &input.data {
        Data::Struct(data) => of_struct(&data.fields),
        Data::Enum(data) if data.variants.is_empty() => {
            return Err(Error::new(input.ident.span(), "an enum without variants has no value to share"));
        }
        Data::Enum(data) => of_enum(data.variants.iter().collect()),
        Data::Union(data) => {
            let text = "a union cannot be shared: what it holds is not known";
            return Err(Error::new(data.union_token.span(), text));
        }
    };
    let mut generics = input.generics.clone();
    for parameter in input.generics.type_params() {
        let name = &parameter.ident;
        let bound = syn::parse_quote!(#name: ::tine::shared::Plain);
        generics.make_where_clause().predicates.push(bound);
    }
    let name = &input.ident;
    let (of_impl, of_type, bounds) = generics.split_for_impl();
    Ok(quote! {
        impl #of_impl ::tine::shared::Plain for #name #of_type #bounds {
            const WORDS: usize = #words;

            #[inline]
            fn put(&self, put: &mut impl ::core::ops::FnMut(u64)) {
                #put
            }

            #[inline]
            fn take(take: &mut impl ::core::ops::FnMut() -> u64) -> Self {
                #take
            }
        }
    })
}

/// The words of a value, how it is put, and how it is taken.
type Parts = (TokenStream, TokenStream, TokenStream);

fn of_struct(fields: &Fields) -> Parts {
    let (pattern, names) = bind(fields);
    let words = sum_of(fields);
    let taken = take_fields(fields);
    let put = quote! {
        let Self #pattern = self;
        #(::tine::shared::Plain::put(#names, put);)*
        let _ = put;
    };
    let take = quote! {
        let _ = &take;
        Self #taken
    };
    (words, put, take)
}

fn of_enum(variants: Vec<&Variant>) -> Parts {
    let sums: Vec<TokenStream> = variants.iter().map(|variant| sum_of(&variant.fields)).collect();
    let most = quote! {
        {
            let mut most = 0;
            #(if #sums > most { most = #sums; })*
            most
        }
    };
    let put_arms = variants.iter().zip(&sums).enumerate().map(|(number, (variant, sum))| {
        let (name, number) = (&variant.ident, number as u64);
        let (pattern, names) = bind(&variant.fields);
        quote! {
            Self::#name #pattern => {
                put(#number);
                #(::tine::shared::Plain::put(#names, put);)*
                #sum
            }
        }
    });
    let take_arms = variants.iter().zip(&sums).enumerate().rev().map(|(number, (variant, sum))| {
        let name = &variant.ident;
        // Also the arm of a number that stands for no variant.
        let number = if number == 0 {
            quote!(_)
        } else {
            let number = number as u64;
            quote!(#number)
        };
        let taken = take_fields(&variant.fields);
        quote!(#number => (Self::#name #taken, #sum),)
    });
    let put = quote! {
        let used: usize = match self { #(#put_arms)* };
        (used..#most).for_each(|_| put(0));
    };
    // The arm for any number has to be the last one.
    let take_arms: Vec<TokenStream> = take_arms.collect();
    let take = quote! {
        let (value, used): (Self, usize) = match take() { #(#take_arms)* };
        (used..#most).for_each(|_| { take(); });
        value
    };
    (quote!(1 + #most), put, take)
}

/// The words of all fields together.
fn sum_of(fields: &Fields) -> TokenStream {
    let types: Vec<&Type> = fields.iter().map(|field| &field.ty).collect();
    quote!((0 #(+ <#types as ::tine::shared::Plain>::WORDS)*))
}

/// A pattern of the fields, and the names that it binds.
fn bind(fields: &Fields) -> (TokenStream, Vec<syn::Ident>) {
    let names: Vec<syn::Ident> = (0..fields.len()).map(|number| format_ident!("field_{number}")).collect();
    let pattern = match fields {
        Fields::Named(fields) => {
            let members = fields.named.iter().map(|field| &field.ident);
            quote!({ #(#members: #names),* })
        }
        Fields::Unnamed(_) => quote!(( #(#names),* )),
        Fields::Unit => quote!(),
    };
    (pattern, names)
}

/// The fields, each taken in its turn.
fn take_fields(fields: &Fields) -> TokenStream {
    let types = fields.iter().map(|field| &field.ty);
    match fields {
        Fields::Named(fields) => {
            let members = fields.named.iter().map(|field| &field.ident);
            quote!({ #(#members: <#types as ::tine::shared::Plain>::take(take)),* })
        }
        Fields::Unnamed(_) => quote!(( #(<#types as ::tine::shared::Plain>::take(take)),* )),
        Fields::Unit => quote!(),
    }
}
